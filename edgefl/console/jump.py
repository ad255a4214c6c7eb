"""Where `:` leads: a view, a device, a round, by what an operator types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefl.console import summary
from edgefl.console.pages.device import DevicePage
from edgefl.console.pages.round import RoundPage
from edgefl.console.view import View
from edgefl.errors import EdgeflError
from edgefl.monitor.state import FederationState
from edgefl.site.problems import nearest


class Nowhere(EdgeflError):
    """What was typed names nothing that is there; the hint is the nearest name."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A view by its place in the tab bar, or a page over the present one."""

    view: int | None = None
    page: View | None = None


def places(state: FederationState, views: Sequence[type[View]]) -> list[str]:
    """Everything that can be typed, in the order in which it is offered: views, devices, rounds from the newest."""
    run = [f"run {state.run.id}"] if state.run else []
    devices = [f"device {row.name}" for row in summary.members(state)]
    rounds = [f"round {row.number}" for row in reversed(state.rounds)]
    return [*(view.NAME.lower() for view in views), *devices, *rounds, *run]


def lead(text: str, state: FederationState, views: Sequence[type[View]]) -> Destination:
    """Where the text leads; a device's name alone and a round's number alone do too. Raises Nowhere."""
    wanted = " ".join(text.split())
    names = [view.NAME.lower() for view in views]
    if wanted.lower() in names:
        return Destination(view=names.index(wanted.lower()))
    kind, _, name = wanted.rpartition(" ")
    if kind in ("", "device") and any(row.name == name for row in summary.members(state)):
        return Destination(page=DevicePage(name))
    if kind in ("", "round") and any(str(row.number) == name for row in state.rounds):
        return Destination(page=RoundPage(int(name)))
    if kind == "run" and state.run is not None and name == state.run.id:
        return Destination(view=names.index("rounds"))
    if kind == "run" and any(name == run.id for run in state.runs):
        file = f"run-{name}.ndjson"
        hint = f"edgefl rounds --run {name} --record {file}, then edgefl console --replay {file}"
        raise Nowhere(f"run {name} is over, and this console follows the federation's present", hint=hint)
    known = places(state, views)
    near = nearest(wanted, [place for place in known if kind and place.startswith(f"{kind} ")] or known)
    raise Nowhere(f"there is no {wanted!r} here", hint=f":{near}" if near else ":fleet, :device NAME, :round N")
