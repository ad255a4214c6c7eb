import pytest

from edgefl.console.query import Query

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
