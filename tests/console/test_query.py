import pytest

from edgefl.console.query import Query, apart

ROW = {"device": "edge-07", "state": "⚑ suspect", "arch": "x86_64"}


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("", True),
        ("EDGE", True),
        ("edge-08", False),
        ("!suspect", False),
        ("!offline", True),
        ("state:suspect", True),
        ("arch:suspect", False),
        ("!state:suspect", False),
        ("edge arch:x86", True),
        ("edge arch:arm", False),
        ("nofield:edge", False),
        ("!", True),
    ],
)
def test_a_filter_takes_text_negation_and_fields(text: str, stays: bool) -> None:
    assert Query(text).accepts(ROW) is stays


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("edge", {"device", "state"}),
        ("state:suspect", {"state"}),
        ("seen:4m", {"seen"}),
        ("!seen:4m edge", {"seen", "device", "state"}),
        ("nofield:edge", {"device", "state"}),
        ("!", {"device", "state"}),
    ],
)
def test_a_filter_looks_at_the_columns_that_it_names_or_at_all_that_last(text: str, needed: set[str]) -> None:
    assert Query(text).needs(["device", "state"], ["device", "state", "seen"]) == needed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("", "")),
        ("edge since", ("", "edge since")),
        ("host:edge-01 Since:10m !gate", ("10m", "host:edge-01 !gate")),
        ("since:10m since:2026-01-31T12:00", ("2026-01-31T12:00", "")),
        ("!since:10m", ("", "!since:10m")),
    ],
)
def test_a_word_that_a_view_takes_for_itself_is_none_of_the_filters(text: str, parts: tuple[str, str]) -> None:
    assert apart(text, "since") == parts
