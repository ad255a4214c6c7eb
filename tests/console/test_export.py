"""What is written for other programs, and where."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from edgefl.console.app import Console
from edgefl.console.archive import Recording
from edgefl.console.export import NoPicture, as_csv, as_json, as_png, write
from edgefl.console.feed import ReplayFeed
from edgefl.console.ink import ink
from edgefl.console.live import Link
from edgefl.console.provisioning.tree import Tree
from edgefl.console.provisioning.works import Works
from edgefl.console.view import GridView
from edgefl.console.widgets.columns import Column
from edgefl.events.schema import Event
from edgefl.monitor.state import FederationState

from .conftest import BEGAN, DEVICES
from .driving import shown, until
from .provisioning.conftest import stream_of
from .test_app import Recorded, console
from .test_keys import PLACES
from .test_lines import Hosts, line

Row = tuple[str, object]
COLUMNS: tuple[Column[Row], ...] = (
    Column("name", "NAME", 4, lambda row, _: ink("drawn"), lambda row: row[0]),
    Column("value", "VALUE", 4, lambda row, _: ink("drawn"), lambda row: 0, raw=lambda row: row[1]),
)


def bytes_of(directory: Path, pattern: str) -> bytes:
    """What is in the only file of that name."""
    (file,) = directory.glob(pattern)
    return file.read_bytes()


def text_of(directory: Path, pattern: str) -> str:
    """What the only file of that name says."""
    return bytes_of(directory, pattern).decode()


@pytest.mark.parametrize(
    ("value", "cell", "in_json"),
    [
        (-0.81, "-0.81", -0.81),
        (None, "", None),
        (float("inf"), "inf", "inf"),
        (("a", "b"), "a b", ["a", "b"]),
        ("plain, with a comma", "plain, with a comma", "plain, with a comma"),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)", "=HYPERLINK(1)"),
        ("-cmd", "'-cmd", "-cmd"),
    ],
)
def test_values_are_what_they_are_and_no_text_is_a_formula(value: object, cell: str, in_json: object) -> None:
    rows: list[Row] = [("edge-01", value)]
    assert list(csv.reader(io.StringIO(as_csv(COLUMNS, rows)))) == [["name", "value"], ["edge-01", cell]]
    assert json.loads(as_json(COLUMNS, rows)) == [{"name": "edge-01", "value": in_json}]


def test_no_file_is_ever_written_over(tmp_path: Path) -> None:
    first = write(tmp_path, "fleet", "csv", "one", BEGAN)
    second = write(tmp_path, "fleet", "csv", "two", BEGAN)
    assert (first.name, second.name) == ("fleet-20260302T090000Z.csv", "fleet-20260302T090000Z-2.csv")
    assert (first.read_text(), second.read_text()) == ("one", "two")


@pytest.mark.slow
async def test_e_writes_every_row_that_the_filter_leaves_with_all_its_columns(
    state: FederationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with console(Recorded(state), state.seq, size=(160, 50)) as (app, pilot):
        await pilot.press("e", "j")
        await until(pilot, lambda: ".json is written" in shown(app))
        await pilot.press("slash", *"edge-03", "enter", "e", "c")
        await until(pilot, lambda: ".csv is written" in shown(app))
    rows = json.loads(text_of(tmp_path, "fleet-*.json"))
    assert [row["device"] for row in rows] == list(DEVICES)
    assert {row["state"] for row in rows} == {"waiting", "offline", "suspect"}
    assert {"samples", "cpu", "link"} <= rows[0].keys(), "whether the width has room for them or not"
    table = csv.DictReader(io.StringIO(text_of(tmp_path, "fleet-*.csv")))
    assert [row["device"] for row in table] == ["edge-03"]


@pytest.mark.slow
async def test_where_rows_are_marked_e_writes_those_alone(
    state: FederationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with console(Recorded(state), state.seq, size=(160, 50)) as (app, pilot):
        await pilot.press("down", "space", "down", "space", "slash", *"edge-03", "enter", "e")
        await until(pilot, lambda: "the 2 marked rows as CSV" in shown(app))
        await pilot.press("c")
        await until(pilot, lambda: ".csv is written" in shown(app))
    table = csv.DictReader(io.StringIO(text_of(tmp_path, "fleet-*.csv")))
    assert [row["device"] for row in table] == ["edge-03", "edge-02"]


@pytest.mark.slow
@pytest.mark.parametrize("place", [*PLACES, "Logs", "Provision"])
async def test_every_view_and_page_exports(
    place: str, recording: Path, events: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hosts, works = Hosts("coordinator", *DEVICES), Works(tmp_path)
    works._tree = Tree("plan", "clinic", 0.0).tell_all(stream_of("plan-first"), 1.0).finish(3.0)
    hosts.said.put_nowait(line(1, message="a line"))
    app = Console(ReplayFeed(recording), works=works, logs=hosts, archive=Recording(recording), theme="edgefl-dark")
    async with app.run_test(size=(160, 50), notifications=True) as pilot:
        await until(pilot, lambda: app.frame.link is Link.OVER)
        await pilot.press(*PLACES.get(place, ["6" if place == "Logs" else "5"]))
        top = app.stage.top
        assert type(top).__name__ == place
        assert isinstance(top, GridView)
        await until(pilot, lambda: bool(top.grid.rows))
        for ending, key in (("csv", "c"), ("json", "j"), ("svg", "s"), ("png", "p")):
            await pilot.press("e", key)
            await until(pilot, lambda ending=ending: f".{ending} is written" in shown(app))
        assert app.is_running
    rows = json.loads(text_of(tmp_path, "*.json"))
    assert len(list(csv.DictReader(io.StringIO(text_of(tmp_path, "*.csv"))))) == len(rows) > 0
    assert text_of(tmp_path, "*.svg").startswith("<svg")
    assert bytes_of(tmp_path, "*.png").startswith(b"\x89PNG")


@pytest.mark.slow
async def test_where_nothing_can_be_written_the_console_says_so(
    state: FederationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "gone/nowhere")
    async with console(Recorded(state), state.seq, size=(160, 50)) as (app, pilot):
        await pilot.press("e", "c")
        await until(pilot, lambda: "nothing was exported" in shown(app))


def test_a_png_has_the_letters_of_its_svg() -> None:
    def drawn(text: str) -> bytes:
        style = "<style>.t { font-family: Fira Code, monospace; font-size: 20px; fill: white }</style>"
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="200" height="30">{style}<text class="t" y="20">{text}</text></svg>'
        return as_png(svg)

    assert drawn("edge-01") != drawn("edge-02"), "without its font a picture would be blank"
    assert drawn("⚑ ━━━ ▁▃▇ ε") != drawn("⚑ ━── ▁▂▇ ε")


@pytest.mark.parametrize(("missing", "says"), [("resvg_py", "edgefl[png]"), ("fc-match", "apt install fontconfig")])
def test_a_machine_that_draws_no_png_says_what_it_lacks(missing: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "resvg_py":
        monkeypatch.setitem(sys.modules, missing, None)
    else:
        monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoPicture) as error:
        as_png("<svg/>")
    assert says in error.value.hint
