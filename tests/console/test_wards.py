"""`Q`, `R`, `D`, `U`, `c`, `V` and `T` by their keys: what is asked, what is done, and what every open console then shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from textual.widgets import Input

from edgefl.console import wards
from edgefl.console.app import Console
from edgefl.console.controls import Controls
from edgefl.console.feed import Feed
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.flag import FlagPage
from edgefl.console.provisioning.works import Works
from edgefl.console.screens.confirm import Confirm
from edgefl.console.screens.reason import Reason
from edgefl.console.screens.tokens import Tokens
from edgefl.events.schema import DeviceState, Event
from edgefl.layout import ENROL
from edgefl.monitor.state import FederationState
from edgefl.operations.enrol import Token
from edgefl.pki import tokens
from edgefl.progress import Finished, Progress
from edgefl.site.model import Site

from .driving import Driven, shown, until
from .sites import ADOPTED
from .test_app import Coordinator, Live

Asked = list[tuple[str, str, tuple[str, ...], str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What was asked of the operations: deed, site, devices, why. The operations themselves have tests of their own."""
    found: Asked = []

    def recording(deed: str) -> Callable[..., AsyncIterator[Progress]]:
        async def act(
            site: Site,
            devices: Sequence[str] = (),
            *,
            why: str = "",
            names: Sequence[str] = (),
            given: list[Token] | None = None,
        ) -> AsyncIterator[Progress]:
            found.append((deed, site.name, tuple(devices or names), why))
            if given is not None:
                given += [Token(tokens.make(), device, datetime.now(UTC) + wards.TOKEN_LIFE) for device in devices]
            yield Finished(deed, "", "done", changed=True)

        return act

    monkeypatch.setattr(wards, "ACTS", {deed: recording(deed) for deed in wards.ACTS})
    return found


@asynccontextmanager
async def console(
    feed: Feed, seq: int, directory: Path | None, *, controls: Controls | None = None, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[Console, Driven]]:
    """A console that has seen everything up to `seq`; without a directory it only watches."""
    works = None
    if directory is not None:
        (directory / "site.yaml").write_text(ADOPTED)
        works, controls = Works(directory), controls or Coordinator()
    app = Console(feed, works=works, controls=controls, theme="edgefl-dark")
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.frame.state.seq >= seq)
        app.paint()
        await pilot.pause()
        yield app, pilot


async def answer(app: Console, pilot: Driven, key: str, why: str) -> str:
    """Press the key, say why, press Enter; what was asked."""
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, Reason))
    await pilot.pause()
    text = shown(app)
    await pilot.press(*why.replace(" ", "_"), "enter")
    await until(pilot, lambda: not isinstance(app.screen, Reason))
    return text


def then(events: list[Event], state: str, *devices: str) -> list[Event]:
    """The recording, and then the operator's word about devices."""
    said = list(events)
    for device in devices:
        body = DeviceState(device=device, state=state, detail="stolen")  # type: ignore[arg-type]
        last = said[-1]
        said.append(last.model_copy(update={"seq": last.seq + 1, "body": body, "round": 0, "run": "", "previous": last.hash}))
    return said


@pytest.mark.slow
async def test_q_says_what_it_changes_asks_why_and_acts_on_the_row(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    async with console(Live(events), len(events), tmp_path) as (app, pilot):
        assert "Q Quarantine" in shown(app)
        assert "R Release" not in shown(app), "nobody is in quarantine"
        await pilot.press("down")
        text = await answer(app, pilot, "Q", "stolen")
        for said in ("edge-02", "certificates are revoked", "9 of 10 devices are left, a round needs 7", "evidence stay"):
            assert said in text
        await until(pilot, lambda: "cut off: edge-02" in shown(app))
        assert asked == [("quarantine", "clinic", ("edge-02",), "stolen")]


@pytest.mark.slow
async def test_without_a_reason_nothing_is_done_and_esc_leaves_it(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    async with console(Live(events), len(events), tmp_path) as (app, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: isinstance(app.screen, Reason))
        await pilot.press("space", "enter")
        assert "say why first" in shown(app)
        assert app.screen.query_one(Input).has_focus
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Reason))
        assert asked == []


@pytest.mark.slow
async def test_marked_rows_are_asked_about_together_and_by_mouse_too(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    async with console(Live(events), len(events), tmp_path) as (app, pilot):
        await pilot.press("space", "down", "down", "space", "down", "space", "down", "space")
        await pilot.press("Q")
        await until(pilot, lambda: isinstance(app.screen, Reason))
        assert "too few, the run will end" in shown(app), "six of ten are left where seven are needed"
        await pilot.press(*"odd")
        await pilot.click("#yes")
        await until(pilot, lambda: bool(asked))
        [(deed, _, devices, why)] = asked
        assert (deed, len(devices), why) == ("quarantine", 4, "odd")


@pytest.mark.slow
async def test_from_a_device_and_from_a_flag_it_is_that_device(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    async with console(Live(events), len(events), tmp_path) as (app, pilot):
        await pilot.press(*["down"] * 6, "enter")
        assert isinstance(app.stage.top, DevicePage)
        await answer(app, pilot, "Q", "one")
        await until(pilot, lambda: len(asked) == 1)
        await pilot.press("4", "enter")
        assert isinstance(app.stage.top, FlagPage)
        await pilot.press("down")
        await answer(app, pilot, "Q", "two")
        await until(pilot, lambda: len(asked) == 2)
        assert [devices for _, _, devices, _ in asked] == [("edge-07",), ("edge-07",)]


@pytest.mark.slow
async def test_every_open_console_shows_it_and_r_takes_it_back(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    feed = Live(events)
    async with console(feed, len(events), tmp_path) as (app, pilot):
        assert "⊘ quarantined" not in shown(app)
        feed.more.put_nowait(then(events, "quarantined", "edge-01")[-1])
        await until(pilot, lambda: "⊘ quarantined" in shown(app) and "R Release" in shown(app))
        await pilot.press("Q")
        await until(pilot, lambda: "edge-01: in quarantine already" in shown(app))
        text = await answer(app, pilot, "R", "found")
        assert "new keys and certificates" in text
        assert "spent ε stays spent" in text
        await until(pilot, lambda: bool(asked))
        assert asked == [("release", "clinic", ("edge-01",), "found")]
        await pilot.press("down", "R")
        await until(pilot, lambda: "edge-02: not in quarantine" in shown(app))


@pytest.mark.slow
async def test_d_drains_the_row_and_u_has_rounds_ask_it_again(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    feed = Live(events)
    async with console(feed, len(events), tmp_path) as (app, pilot):
        await pilot.press("U")
        assert not isinstance(app.screen, Reason), "nobody is drained"
        text = await answer(app, pilot, "D", "new disk")
        for said in (
            "edge-01",
            "they finish the round",
            "9 of 10 devices are left, a round needs 7",
            "U has rounds ask them again",
        ):
            assert said in text
        await until(pilot, lambda: "drained: edge-01" in shown(app))
        feed.more.put_nowait(then(events, "drained", "edge-01")[-1])
        await until(pilot, lambda: "◌ drained" in shown(app))
        await pilot.press("D")
        await until(pilot, lambda: "edge-01: in no round already" in shown(app))
        await answer(app, pilot, "U", "it is in")
        await until(pilot, lambda: len(asked) == 2)
        assert asked == [("drain", "clinic", ("edge-01",), "new_disk"), ("undrain", "clinic", ("edge-01",), "it_is_in")]


@pytest.mark.slow
async def test_security_acts_on_the_device_of_a_flag_a_certificate_or_a_proof(
    events: list[Event], asked: Asked, tmp_path: Path
) -> None:
    async with console(Live(events), len(events), tmp_path) as (app, pilot):
        await pilot.press("4", "tab", "down")
        await answer(app, pilot, "Q", "why")
        await until(pilot, lambda: bool(asked))
        assert asked[0][2] == ("edge-02",)


@pytest.mark.slow
async def test_what_fails_is_said_with_what_to_do_next(events: list[Event], tmp_path: Path) -> None:
    async with console(Live(events), len(events), tmp_path, size=(160, 40)) as (app, pilot):
        await answer(app, pilot, "Q", "stolen")
        await until(pilot, lambda: "clinic has no hosts yet" in shown(app))
        assert "next: edgefl up" in shown(app)


@pytest.mark.slow
async def test_who_only_watches_has_neither_key(events: list[Event], asked: Asked) -> None:
    said = then(events, "quarantined", "edge-01")
    async with console(Live(said), len(said), None) as (app, pilot):
        assert "Quarantine" not in shown(app)
        assert "Release" not in shown(app)
        await pilot.press("Q", "R")
        await pilot.pause()
        assert not isinstance(app.screen, Reason)
        await asyncio.sleep(0)
        assert asked == []


def test_only_devices_that_it_changes_anything_for_are_asked_about(state: FederationState, events: list[Event]) -> None:
    later = FederationState().apply_all(then(events, "quarantined", "edge-01", "edge-02"))
    cut = wards.wish("quarantine", ["edge-01", "edge-03"], later)
    assert cut is not None
    assert cut.devices == ("edge-03",)
    assert "7 of 10 devices are left, a round needs 7" in cut.what
    back = wards.wish("release", ["edge-01", "edge-03"], later)
    assert back is not None
    assert back.devices == ("edge-01",)
    assert wards.wish("release", ["edge-03"], state) is None
    assert wards.wish("quarantine", [], state) is None
    assert wards.nothing("release", []) == "this row is about no device"


@pytest.mark.slow
async def test_c_gives_new_certificates_after_a_yes_also_from_a_certificates_row(
    events: list[Event], asked: Asked, tmp_path: Path
) -> None:
    async with console(Live(events), len(events), tmp_path) as (app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, Confirm)
        assert "new keys are made on the devices" in shown(app)
        await pilot.press("n")
        assert asked == []
        await pilot.press("4", "tab", "down", "c", "y")
        await until(pilot, lambda: "new certificates: edge-02" in shown(app))
        assert asked == [("rotate", "clinic", ("edge-02",), "")]


@pytest.mark.slow
async def test_what_is_in_quarantine_gets_no_new_certificate(events: list[Event], asked: Asked, tmp_path: Path) -> None:
    said = then(events, "quarantined", "edge-01")
    async with console(Live(said), len(said), tmp_path) as (app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "edge-01: in quarantine, R makes new ones" in shown(app))
        assert asked == []


@pytest.mark.slow
async def test_capital_v_proves_the_isolation_of_the_device_after_a_yes(
    events: list[Event], asked: Asked, tmp_path: Path
) -> None:
    said = then(events, "quarantined", "edge-01")
    async with console(Live(said), len(said), tmp_path) as (app, pilot):
        await pilot.press("V")
        await until(pilot, lambda: "edge-01: in quarantine, and not probed" in shown(app))
        await pilot.press("down", "V")
        assert isinstance(app.screen, Confirm)
        assert "nothing on the hosts is changed" in shown(app)
        await pilot.press("n")
        assert asked == []
        await pilot.press("4", "tab", "tab", "down", "V", "y")
        await until(pilot, lambda: "proven again: edge-02" in shown(app))
        assert asked == [("verify", "clinic", ("edge-02",), "")]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_capital_t_shows_a_token_once_and_copies_it(
    events: list[Event], asked: Asked, tmp_path: Path, size: tuple[int, int]
) -> None:
    async with console(Live(events), len(events), tmp_path, size=size) as (app, pilot):
        text = await answer(app, pilot, "T", "repaired")
        assert "whoever shows the token" in text
        await until(pilot, lambda: isinstance(app.screen, Tokens))
        await pilot.pause()
        assert asked == [("token", "clinic", ("edge-01",), "repaired")]
        for said in ("for edge-01 alone, once, until", str(ENROL), "not shown again", "esc close"):
            assert said in shown(app)
        await pilot.press("enter")
        assert isinstance(app.screen, Tokens), "Enter, pressed twice, does not take it away"
        await pilot.press("y")
        assert app.clipboard in shown(app)
        assert tokens.digest(app.clipboard)
        token = app.clipboard
        await pilot.press("escape", "5")
        assert not isinstance(app.screen, Tokens)
        assert token not in shown(app), "what was done is in Provision, and not by which token"


@pytest.mark.slow
async def test_marked_devices_get_a_token_each_and_who_is_in_quarantine_none(
    events: list[Event], asked: Asked, tmp_path: Path
) -> None:
    said = then(events, "quarantined", "edge-01")
    async with console(Live(said), len(said), tmp_path) as (app, pilot):
        await pilot.press("T")
        await until(pilot, lambda: "edge-01: in quarantine, R takes it back" in shown(app))
        await pilot.press("space", "down", "space", "down", "space")
        await answer(app, pilot, "T", "new")
        await until(pilot, lambda: isinstance(app.screen, Tokens))
        assert [devices for _, _, devices, _ in asked] == [("edge-02", "edge-03")]
        await pilot.press("y")
        assert [line.split()[0] for line in app.clipboard.splitlines()] == ["edge-02", "edge-03"]


@pytest.mark.slow
async def test_without_hosts_there_is_nothing_to_prove(events: list[Event], tmp_path: Path) -> None:
    async with console(Live(events), len(events), tmp_path, size=(160, 40)) as (app, pilot):
        await pilot.press("V", "y")
        await until(pilot, lambda: "next: edgefl up" in shown(app))
