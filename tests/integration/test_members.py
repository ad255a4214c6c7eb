"""A device joins a run, one is drained for a while, and one leaves it: Flower's own services, each a process of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.events.schema import DeviceState
from edgefl.federation.flower.register import apply
from edgefl.federation.loopback import Loopback, json_text

from .conftest import bodies, records, site_of

pytestmark = pytest.mark.slow

NAMES = ["edge-1", "edge-2", "edge-3", "edge-4"]


def belong(fed: Loopback, names: list[str]) -> None:
    """What `edgefl up` makes of the coordinator when these are the site's devices: its list, then the SuperLink's register."""
    places = fed.places("coordinator")
    places.members.write_text(json_text({"site_hash": "", "devices": names}))
    keys = {name: (fed.places(name).identity / "node.pub").read_text() for name in names}
    with fed.control() as control:
        apply(control, keys, places.nodes)


def test_a_run_takes_in_who_joins_and_lets_go_who_leaves_or_is_drained_without_missing_anybody(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sections = {"run": {"rounds": 200, "quorum": 0.7, "deadline_s": 60}, "aggregation": {"rule": "mean", "byzantine": 0}}
    fed = Loopback(tmp_path / "loop", site_of(tmp_path, NAMES, sections), records(tmp_path_factory, NAMES))
    try:
        fed.prepare()
        fed.start_coordinator()
        belong(fed, NAMES[:3])
        for name in NAMES[:3]:
            fed.start_device(name)
        fed.wait_until("three devices are online", lambda: len(fed.online()) == 3)
        run = fed.start_run()

        def done() -> list[dict[str, object]]:
            return bodies(fed.events(run), "round_finished")

        fed.wait_until("two rounds are done", lambda: len(done()) >= 2)
        belong(fed, NAMES)
        fed.start_device("edge-4")
        fed.wait_until("the newcomer has part in a round", lambda: "edge-4" in str(done()[-1]["participants"]))

        def says(device: str, state: str) -> tuple[int, int]:
            """How many rounds were done before it was said, and after."""
            before = len(done())
            with fed.journal() as journal:
                journal.append(DeviceState.model_validate({"device": device, "state": state}))
            return before, len(done())

        drained = says("edge-3", "drained")
        fed.wait_until("rounds go on without who is drained", lambda: len(done()) >= drained[1] + 3)
        undrained = says("edge-3", "undrained")
        fed.wait_until("it is asked again", lambda: "edge-3" in str(done()[-1]["participants"]) and len(done()) > undrained[1])
        with fed.journal() as journal:
            journal.append(DeviceState(device="edge-1", state="removed", detail="left the site"))
        told = len(done())
        fed.wait_until("the round that it was in is over", lambda: len(done()) >= told + 2)
        for service in ("edge-1/superexec", "edge-1/supernode"):
            fed.kill(service)
        belong(fed, NAMES[1:])
        left = len(done())
        fed.wait_until("rounds go on without it", lambda: len(done()) >= left + 2)
        with fed.control() as control:
            control.stop_run(run)
        events = fed.events(run)
    finally:
        fed.stop()
    assert bodies(events, "round_skipped") == []
    assert bodies(events, "device_dropped") == [], "nobody was missed, not even who was on its way in or out"
    parts = {int(one["round"]): set(one["participants"]) for one in bodies(events, "round_finished")}
    joined = min(number for number, names in parts.items() if "edge-4" in names)
    assert all("edge-4" in names for number, names in parts.items() if number >= joined)
    assert all("edge-2" in names for names in parts.values())
    away = [number for number, names in parts.items() if "edge-3" not in names]
    assert away == list(range(away[0], away[-1] + 1)), "one stretch of rounds without it, and none that it began was lost"
    assert drained[0] < away[0] <= drained[1] + 2
    assert undrained[0] <= away[-1] <= undrained[1] + 2
    last = max(number for number, names in parts.items() if "edge-1" in names)
    assert all("edge-1" in parts[number] for number in range(1, last + 1)), "it was in each until it left"
    assert parts[max(parts)] == {"edge-2", "edge-3", "edge-4"}
