"""What a changed list of devices means, as tables of values; what is refused, before any host is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgefl.events.schema import Body, DeviceState, Event, IsolationProven, RoundFinished, RoundStarted, RunStarted
from edgefl.fleet.hosts import HostUnknown
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.state import FederationState
from edgefl.operations import drain, members
from edgefl.operations.plan import leaving
from edgefl.operations.quarantine import devices_of
from edgefl.operations.reporting import standings
from edgefl.pki.register import Entry, kept_out
from edgefl.site.host import Watcher
from edgefl.site.model import Observability, Site

KEYS = {name: f"ssh-ed25519 {name}" for name in ("coordinator", "edge-01", "edge-02", "edge-03")}


def event(seq: int, body: Body, *, round: int = 0) -> Event:  # noqa: A002  # the word of the field
    said = body.model_dump(mode="json")
    return Event(seq=seq, at=datetime.now(UTC), run="1", round=round, body=said, previous="", hash="")  # type: ignore[arg-type]


def device(name: str, number: int, **said: Any) -> dict[str, Any]:
    return {"name": name, "address": f"192.0.2.{number}", "host_key": KEYS.get(name), **said}


def static(*devices: dict[str, Any]) -> Site:
    coordinator = {"name": "coordinator", "address": "192.0.2.10", "host_key": KEYS["coordinator"]}
    return Site.model_validate({
        "name": "clinic", "coordinator": coordinator, "devices": list(devices), "infrastructure": {"module": "static"},
    })  # fmt: skip


def known(site: Site) -> Inventory:
    hosts = (Host(host.name, host.role, str(host.address), 22, "root", host_key=host.host_key) for host in site.hosts)
    return Inventory(tuple(hosts))


BEFORE = static(device("edge-01", 11), device("edge-02", 12))


def test_a_list_that_says_the_same_changes_nothing() -> None:
    assert members.changes(BEFORE, known(BEFORE)) == members.Changes()
    assert members.changes(BEFORE, Inventory(())) == members.Changes()


def test_who_leaves_and_who_joins_and_whose_hardware_is_another() -> None:
    site = static(device("edge-02", 12, host_key="ssh-ed25519 other"), device("edge-03", 13))
    found = members.changes(site, known(BEFORE))
    assert ([host.name for host in found.left], found.replaced) == (["edge-01"], ("edge-02",))
    assert [step.subject for step in leaving(found)] == ["edge-01", "edge-02"]
    same = static(device("edge-01", 21, host_key="ssh-ed25519 edge-01 root@here"), device("edge-02", 12))
    assert members.changes(same, known(BEFORE)) == members.Changes(), "it moved, and has its old key"


@pytest.mark.parametrize(
    ("renamed", "by"),
    [(device("ward-1", 11), "address 192.0.2.11"), (device("ward-1", 99, host_key=KEYS["edge-01"]), "SSH host key")],
)
def test_a_rename_is_refused_with_the_reason(renamed: dict[str, Any], by: str) -> None:
    with pytest.raises(members.MemberRefused, match=f"ward-1 has the {by} of edge-01") as refused:
        members.changes(static(renamed, device("edge-02", 12)), known(BEFORE))
    assert (refused.value.exit_code, "call it edge-01" in refused.value.hint) == (10, True)


def test_a_lab_host_is_not_made_anew_because_another_left_the_list() -> None:
    names = ["edge-01", "edge-02", "edge-03"]
    lab = Site.model_validate({"name": "lab", "devices": [{"name": name} for name in names]})
    hosts = Inventory(tuple(
        Host(name, "device" if number > 10 else "coordinator", f"10.77.0.{number}", 22, "root")
        for number, name in enumerate(["coordinator", *names], 10)
    ))  # fmt: skip
    assert [host.name for host in members.changes(lab.model_copy(update={"devices": lab.devices[:2]}), hosts).left] == ["edge-03"]
    with pytest.raises(members.MemberRefused, match=r"edge-03 would get the address 10\.77\.0\.12") as refused:
        members.changes(lab.model_copy(update={"devices": [lab.devices[0], lab.devices[2]]}), hosts)
    assert "address: 10.77.0.13 in site.yaml" in refused.value.hint


def test_a_device_is_at_work_until_the_round_that_asked_it_is_over() -> None:
    started = RunStarted(site="s", site_hash="", task="t", rounds=3, devices=["a", "b"], quorum=1, rule="mean")
    state = FederationState.enrolled("s", ["a", "b"]).apply(event(1, started))
    assert drain.at_work(state, ["a"]) == []
    state = state.apply(event(2, RoundStarted(devices=["a"], deadline_s=9), round=1))
    assert drain.at_work(state, ["a", "b"]) == ["a"]
    nobody: dict[str, Any] = {"dropped": [], "rejected": [], "flagged": [], "bytes_up": 0, "bytes_down": 0, "seconds": {}}
    done = RoundFinished(accuracy=None, loss=None, participants=["a"], **nobody)
    assert drain.at_work(state.apply(event(3, done, round=1)), ["a", "b"]) == []


def test_a_name_that_left_may_come_again_and_is_taken_back_then(tmp_path: Path) -> None:
    now = datetime.now(UTC).isoformat()
    gone = Entry("1", "edge-01", "device", now, now, revoked_at=now, reason=members.GONE)
    bad = Entry("2", "edge-02", "device", now, now, revoked_at=now, reason="stolen")
    assert list(kept_out([gone, bad])) == ["edge-02"]
    site = BEFORE.at(tmp_path)
    state = FederationState.enrolled("clinic", ["edge-02"]).apply(event(1, DeviceState(device="edge-01", state="removed")))
    [back] = standings(site, state)
    assert isinstance(back, DeviceState)
    assert (back.device, back.state) == ("edge-01", "enrolled")


def watched(**said: Any) -> Site:
    host = Watcher.model_validate({"name": "watch", "address": "192.0.2.9", "host_key": "ssh-ed25519 watch"} | said)
    return static(device("edge-01", 11)).model_copy(update={"observability": Observability(prometheus=True, host=host)})


def test_a_host_that_watches_no_more_leaves_as_devices_do_and_is_missed_by_no_round() -> None:
    hosts = known(watched())
    found = members.changes(static(device("edge-01", 11)), hosts)
    assert [host.name for host in found.left] == ["watch"]
    assert [step.what for step in leaving(found)] == ["would watch no more and leave; its certificates would be revoked"]


def test_new_hardware_that_watches_is_known_as_a_devices_is() -> None:
    hosts = known(watched())
    assert members.changes(watched(), hosts) == members.Changes()
    assert members.changes(watched(host_key="ssh-ed25519 another"), hosts) == members.Changes((), ("watch",))


@pytest.mark.parametrize(
    ("before", "after", "says", "hint"),
    [
        (BEFORE, watched(name="edge-02"), "edge-02 is the site's device, and site.yaml makes it the watch", "edge-02 out"),
        (watched(), static(device("watch", 9)), "watch is the site's watcher, and site.yaml makes it the dev", "watch out"),
        (BEFORE, watched(address="192.0.2.12"), "watch has the address 192.0.2.12 of edge-02", "take watch out"),
        (watched(), static(device("edge-01", 11), device("cot", 9)), "cot has the address 192.0.2.9 of watch", "take cot out"),
        (watched(), watched(name="other"), "what it has as the site's watcher is taken away first", "take other out"),
    ],
)  # fmt: skip
def test_no_host_becomes_something_else_while_it_has_what_it_had(before: Site, after: Site, says: str, hint: str) -> None:
    with pytest.raises(members.MemberRefused) as refused:
        members.changes(after, known(before))
    assert says in refused.value.what
    assert hint in refused.value.hint


def test_a_host_that_watches_can_be_neither_drained_nor_set_aside() -> None:
    with pytest.raises(HostUnknown, match="watch is the watcher of clinic, not a device"):
        devices_of(watched(), known(watched()), ["edge-01", "watch"])


def test_the_proof_of_a_host_that_watched_goes_with_it() -> None:
    proven = IsolationProven(device="watch", role="watcher", probes=1, open_forbidden=[], closed_required=[], proof_sha256="")
    state = FederationState.enrolled("clinic", ["edge-01"]).apply(event(1, proven))
    assert (list(state.proofs), list(state.devices)) == (["watch"], ["edge-01"])
    assert list(state.apply(event(2, DeviceState(device="watch", state="drained"))).proofs) == ["watch"], "it has not left"
    state = state.apply(event(2, DeviceState(device="watch", state="removed")))
    assert (list(state.proofs), list(state.devices)) == ([], ["edge-01"])
