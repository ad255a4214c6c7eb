"""Pictures of the views as they were accepted; `pytest --snapshot-update` after looking at the new ones."""

from collections.abc import AsyncGenerator, Callable

import pytest
from textual.pilot import Pilot

from edgefl.console.app import Console
from edgefl.console.feed import News
from edgefl.console.live import Link
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status

Compare = Callable[..., bool]


class Recorded:
    """A recording that ends in this state."""

    is_live = False

    def __init__(self, state: FederationState) -> None:
        self._state = state

    async def news(self, after: int) -> AsyncGenerator[News, None]:
        assert self._state.at is not None
        yield Status(state=self._state, now=self._state.at, quorum=7)


async def settled(pilot: Pilot[None]) -> None:
    """Everything has been read and painted."""
    app = pilot.app
    assert isinstance(app, Console)
    while app.frame.link is not Link.OVER:
        await pilot.pause(0.02)
    app.paint()
    await pilot.pause()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["edgefl-dark", "edgefl-light"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize("view", ["fleet", "rounds", "privacy", "security"])
def test_a_view_looks_as_accepted(
    view: str, size: tuple[int, int], theme: str, state: FederationState, snap_compare: Compare
) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press({"fleet": "1", "rounds": "2", "privacy": "3", "security": "4"}[view])
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme=theme), terminal_size=size, run_before=act)


@pytest.mark.slow
def test_a_device_with_flags_looks_as_accepted(state: FederationState, snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(*["down"] * 6, "enter")
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme="edgefl-dark"), terminal_size=(120, 36), run_before=act)


@pytest.mark.slow
def test_a_flag_with_its_evidence_looks_as_accepted(state: FederationState, snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press("4", "enter")
        await settled(pilot)

    assert snap_compare(Console(Recorded(state), theme="edgefl-dark"), terminal_size=(120, 36), run_before=act)


@pytest.mark.slow
def test_without_colour_everything_can_still_be_told(
    state: FederationState, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(Console(Recorded(state)), terminal_size=(80, 24), run_before=settled)
