"""What is printed of others' words: a device's reasons, a coordinator's names. None of it steers the operator's terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edgefl.cli import devices, models
from edgefl.cli.output import Output
from edgefl.monitor.device import DeviceRow

if TYPE_CHECKING:
    from rich.console import RenderableType

EVIL = "\x1b]0;owned\x07\x9b31m[/bold]"
MODEL = {"name": EVIL, "metrics": {}, "bytes": 1, "at": EVIL, "parent": EVIL, "sha256": EVIL, "marks": [EVIL]}


@pytest.mark.parametrize(
    "shown",
    [
        models.table({"models": [MODEL]}),
        devices.page(DeviceRow(name="edge-01", detail=EVIL), datetime.now(UTC)),
        f"[bold]{EVIL.removesuffix('[/bold]')}",
    ],
)
def test_a_result_steers_no_terminal(shown: RenderableType, capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).result({}, shown)
    printed = capsys.readouterr().out
    assert "owned" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)


def test_json_steers_none_either_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).result(MODEL)
    printed = capsys.readouterr().out
    assert json.loads(printed) == MODEL
    assert printed.removesuffix("\n").isprintable()


def test_colours_and_lines_of_a_result_stay(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).result({}, "[green]✔[/] one\n  next: two\twords")
    assert capsys.readouterr().out == "✔ one\n  next: two     words\n"
