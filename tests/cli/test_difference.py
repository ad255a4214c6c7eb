"""What a plan's steps would change, as a person reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgefl.cli.difference import difference
from edgefl.cli.output import Output
from edgefl.progress import Finished, Progress, Step


def lines(**detail: Any) -> list[str]:
    return [text.plain.strip() for text in difference(Step("configuration", "edge-01", "fact", changed=True, detail=detail))]


def test_terraforms_changes_are_shown_from_what_is_to_what_would_be() -> None:
    before, after = {"memory_mb": 512, "running": False, "host_key": "old"}, {"memory_mb": 768, "running": True}
    assert lines(action="update", before=before, after=after) == [
        "memory_mb: 512 → 768",
        "running: false → true",
        "host_key: old → (known later)",
    ]
    assert lines(action="create", before={}, after={"memory_mb": 512}) == []


def test_ansibles_texts_are_shown_as_a_diff() -> None:
    part = {"before_header": "/etc/a", "after_header": "/etc/a", "before": "one\ntwo\n", "after": "one\nthree\n"}
    assert lines(diff=[part]) == ["--- /etc/a", "+++ /etc/a", "@@ -1,2 +1,2 @@", "one", "-two", "+three"]
    assert lines(diff=[{"before": {"state": "absent"}, "after": {"state": "file"}}])[-3:] == [
        '- "state": "absent"',
        '+ "state": "file"',
        "}",
    ]
    assert lines(diff=[{"prepared": "as the module says"}]) == ["as the module says"]


def test_a_long_diff_is_cut_and_says_where_the_rest_is() -> None:
    shown = lines(diff=[{"before": "", "after": "\n".join(map(str, range(100)))}])
    assert len(shown) == 25
    assert shown[-1].endswith("more lines, all in --json")


def test_what_a_host_says_does_not_steer_the_terminal() -> None:
    (shown,) = lines(diff=[{"prepared": "\x1b[2Jgone"}])
    assert "\x1b" not in shown


async def test_only_a_plan_shows_differences_and_no_stage_takes_less_than_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    async def events() -> AsyncIterator[Progress]:
        yield Step(
            "infrastructure",
            "edge-01",
            "will be changed",
            changed=True,
            detail={"action": "update", "before": {"cpu": 1}, "after": {"cpu": 2}},
        )
        yield Finished("certificates", "", "all are valid")

    for with_differences in (False, True):
        out = Output(as_json=False)
        out.with_differences = with_differences
        await out.stream(events())
        said = capsys.readouterr().out
        assert ("cpu: 1 → 2" in said) is with_differences
        assert said.splitlines()[-1] == "✔ certificates all are valid 0.0 s"
