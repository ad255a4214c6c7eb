from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from edgefl.monitor.device import Certificate, DeviceRow, Epsilon, Flag, Isolation
from edgefl.monitor.health import concerns
from edgefl.monitor.round import RunRow
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
WELL = DeviceRow(
    name="edge-01",
    state="online",
    connected=True,
    seen=NOW,
    epsilon=Epsilon(spent=2, limit=8),
    certificate=Certificate("edge-01", "device", "a1", NOW - timedelta(hours=4), NOW + timedelta(hours=20)),
    isolation=Isolation(NOW, 14, (), (), ""),
)
FLAG = Flag("4", 3, NOW, "guard", 5, 2, "points away from its peers")
RUN = RunRow(id="4", started=NOW, status="completed")


def status(row: DeviceRow = WELL, **about) -> Status:
    parts = {part: about.pop(part, {}) for part in ("certificates", "proofs")}
    state = FederationState(devices={row.name: row}, run=about.pop("run", RUN), **parts)
    return Status(state=state, now=NOW, quorum=1, **about)


def test_a_federation_that_is_well_needs_nothing():
    assert concerns(status()) == []


def row(**changes) -> DeviceRow:
    return replace(WELL, **changes)


def certificate(**changes) -> Certificate:
    return replace(WELL.certificate, **changes)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (row(state="offline", connected=False, seen=NOW - timedelta(minutes=4)), "is offline for 4 min"),
        (row(state="offline", connected=False, seen=None), "is offline"),
        (row(state="enrolled", connected=None), "has not come online yet"),
        (row(unfit="its clock is 90 s behind"), "was left out of the last up: its clock is 90 s behind"),
        (row(state="quarantined", standing="quarantined", detail="odd updates"), "is quarantined: odd updates"),
        (
            row(state="quarantined", conduct="quarantined", detail="flagged in 7 of 10"),
            "is left out of rounds: flagged in 7 of 10",
        ),
        (row(state="suspect", suspect=True, flags=(FLAG,)), "was flagged in 1 of run 4's rounds: points away from its peers"),
        (row(flags=(FLAG,)), "was flagged in 1 of run 4's rounds: points away from its peers"),
        (row(epsilon=Epsilon(spent=7.3, limit=8)), "has nearly spent its privacy budget: ε 7.30 of 8"),
        (row(epsilon=Epsilon(spent=5, limit=8, rounds_left=0)), "has nearly spent its privacy budget: ε 5.00 of 8"),
        (row(epsilon=Epsilon(spent=8, limit=8, refused="nothing is left")), "refused its last round: nothing is left"),
        (row(certificate=certificate(not_after=NOW + timedelta(hours=1))), "its certificate ends in 1.0 h and was not renewed"),
        (row(certificate=certificate(not_after=NOW - timedelta(hours=1))), "its certificate expired at 2026-03-02 08:00 UTC"),
        (row(certificate=certificate(revoked="lost")), "its certificate is revoked: lost"),
        (row(isolation=Isolation(NOW, 14, ("10.77.0.12:22",), ("gate",), "")), "reaches 10.77.0.12:22, does not reach gate"),
    ],
)
def test_what_is_wrong_with_a_device_is_named(found, said):
    only = concerns(status(found))
    assert [concern.subject for concern in only] == ["edge-01"]
    assert only[0].what.endswith(said)
    assert only[0].hint.startswith(("edgefl ", "raise "))


@pytest.mark.parametrize(
    "fine",
    [
        row(state="removed", standing="removed", connected=False),
        row(flags=(replace(FLAG, run="3"),)),
        row(epsilon=Epsilon(spent=0, limit=None)),
        row(certificate=None, isolation=None),
    ],
)
def test_what_is_over_or_unknown_needs_nothing(fine):
    assert concerns(status(fine)) == []


def test_the_coordinators_own_troubles_come_first():
    gate = Certificate("coordinator", "gate", "b2", NOW - timedelta(hours=23), NOW + timedelta(hours=1))
    run = replace(RUN, status="failed", reason="no quorum")
    troubled = status(
        row(state="offline", connected=False),
        run=run,
        certificates={"gate/coordinator": gate},
        superlink="it does not answer",
        journal="it is broken at seq 7",
        broken_seq=7,
    )
    assert [concern.subject for concern in concerns(troubled)] == ["journal", "superlink", "run 4", "coordinator", "edge-01"]


@pytest.mark.parametrize(("mode", "needs"), [("client", ["the models"]), ("dp-sgd", [])])
def test_models_that_have_nearly_spent_their_budget_need_attention_where_they_are_what_is_protected(mode, needs):
    state = FederationState(run=replace(RUN, privacy={"mode": mode}), models=Epsilon(spent=7.5, limit=8, rounds_left=3))
    found = concerns(Status(state=state, now=NOW, quorum=1))
    assert [concern.subject for concern in found] == needs
    assert all("ε 7.50 of 8" in concern.what for concern in found)


def test_a_coordinator_that_is_not_isolated_is_named():
    leaking = status(proofs={"hub": Isolation(NOW, 40, ("hub/nobody → tcp edge-01:22",), (), "")})
    (only,) = concerns(leaking)
    assert (only.subject, only.hint) == ("hub", "edgefl verify")
    assert only.what.endswith("reaches hub/nobody → tcp edge-01:22")
    assert concerns(status(proofs={"hub": Isolation(NOW, 40, (), (), "")})) == []
