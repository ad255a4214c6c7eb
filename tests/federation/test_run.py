"""What a run makes of verdicts: who is asked, what the journal says, and what outlives it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefl.events import schema as events
from edgefl.events.journal import Journal
from edgefl.federation.aggregation.reputation import Reputation, Standing
from edgefl.federation.aggregation.rules import build
from edgefl.federation.aggregation.scores import Aggregate
from edgefl.federation.aside import LEFT_OUT, Aside
from edgefl.federation.checkpoint import Models
from edgefl.federation.compression.downlink import Downlink
from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.exchange import Exchange
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.membership import renew
from edgefl.federation.messages import Trained, TrainRequest
from edgefl.federation.optimisers import Optimiser
from edgefl.federation.received import Received, Stack, reader
from edgefl.federation.rounds import Plan, RunInvalid, plan
from edgefl.federation.run import Run
from edgefl.federation.saving import Memory
from edgefl.federation.secure.round import SecureRounds, Turn
from edgefl.federation.updates import outgoing
from edgefl.site.model import Compression, Policy, Secure, ServerOptimiser
from tests.federation.small import Small

DEVICES = tuple(f"edge-{number:02}" for number in range(1, 11))
LENGTH = 4000
POLICY = Policy(window=6, suspect_after=2, clear_after=2, quarantine_after=4, quarantine_rounds=3)


class Nodes:
    """A grid of which only the nodes are asked."""

    def get_node_ids(self) -> list[int]:
        return list(range(len(DEVICES)))


@pytest.fixture
def run(tmp_path: Path):
    with Journal(tmp_path / "journal.db") as journal:
        yield Run(
            plan=Plan("1", DEVICES, 30, 1, 7, 0.1, 7, "guard", 0.3, policy=POLICY),
            host=None,
            task=None,
            exchange=Exchange(Nodes(), lambda: dict(enumerate(DEVICES)), Aside(journal)),
            witness=None,
            downlink=Downlink(Compression()),
            journal=journal,
            saving=None,
            rule=build("guard", 0.3),
            memory=Memory(Reputation(), Optimiser(ServerOptimiser())),
            arrays={},
        )


FLIPPED, ABSURD = -1.0, 1000.0


def arrived(run: Run, number: int, lies: Mapping[str, float], malformed: set[str] = frozenset()) -> Received:
    """What comes of whoever would be asked. lies: what devices multiply their updates by."""
    asked = run._gather(0)
    rng = np.random.default_rng(number)
    shared = rng.standard_normal(LENGTH)
    received = Received(deltas=Stack(len(asked)), rejected=[device for device in asked if device in malformed])
    for device in asked:
        if device not in malformed:
            own = shared + rng.standard_normal(LENGTH)
            received.updates[device] = Trained(samples=100, metrics={}, start_s=0, train_s=1, cpu_s=1)
            received.deltas.free(LENGTH)[:] = lies.get(device, 1.0) * own
            received.deltas.took(device)
    return received


def lives(run: Run, number: int, lies: Mapping[str, float], malformed: set[str] = frozenset()) -> list[events.DeviceJudged]:
    """One round's robust step, of what arrived; the verdicts that the journal gets with the round."""
    received = arrived(run, number, lies, malformed)
    aggregate = run._aggregate(number, received)
    assert aggregate is not None
    run.memory = replace(run.memory, reputation=aggregate.reputation)
    return [body for body in received.said if isinstance(body, events.DeviceJudged)]


def test_a_device_that_keeps_attacking_is_asked_no_more_and_the_journal_says_so(run: Run) -> None:
    said = [one for number in range(1, 5) for one in lives(run, number, {"edge-02": ABSURD})]
    assert [(one.device, one.conduct) for one in said] == [("edge-02", "suspect"), ("edge-02", "quarantined")]
    assert (said[-1].flags, said[-1].window, said[-1].rounds_out) == (4, 4, 3)
    assert "edge-02" not in run._gather(0)
    assert len(run._gather(0)) == 9
    said = [one for number in range(5, 8) for one in lives(run, number, {"edge-02": ABSURD})]
    assert [(one.device, one.conduct) for one in said] == [("edge-02", "probation")]
    assert "edge-02" in run._gather(0)


def test_a_device_whose_direction_alone_is_odd_is_flagged_and_heard_in_no_round_yet_keeps_its_place(run: Run) -> None:
    said = [one for number in range(1, 21) for one in lives(run, number, {"edge-02": FLIPPED})]
    assert [(one.device, one.conduct) for one in said] == [("edge-02", "suspect")]
    assert run.memory.reputation.of("edge-02").flags == 20
    assert "edge-02" in run._gather(0)


def test_who_sends_no_updates_at_all_is_left_out_too_but_never_below_the_quorum(run: Run) -> None:
    broken = {"edge-01", "edge-02", "edge-03"}
    for number in range(1, 5):
        lives(run, number, {}, broken)
    assert set(run._gather(0)) == set(DEVICES) - broken
    run.plan = Plan("1", DEVICES, 30, 1, 9, 0.1, 7, "guard", 0.3, policy=POLICY)
    run.memory = replace(run.memory, reputation=Reputation())
    for number in range(1, 8):
        lives(run, number, {"edge-04": ABSURD, "edge-05": ABSURD})
    assert len(run._gather(0)) == 9, "nine make a quorum: only one can be spared"


def test_who_is_left_out_is_not_expected_among_those_that_stay(run: Run) -> None:
    for number in range(1, 5):
        lives(run, number, {"edge-01": ABSURD, "edge-02": ABSURD, "edge-03": ABSURD})
    received, same = arrived(run, 5, {}), arrived(run, 5, {})
    aggregate = run._aggregate(5, received)
    assert aggregate is not None
    rest = same.deltas.stacked(list(same.updates))
    assert len(rest) == 7
    np.testing.assert_allclose(aggregate.delta, rest.mean(axis=0), atol=1e-5)


def quarantined(run: Run, device: str, state: str = "quarantined") -> None:
    """The operator's word, as the monitor writes it down."""
    run.journal.append(events.DeviceState(device=device, state=state, detail="stolen"))


def test_the_operators_quarantine_counts_in_the_run_that_is_going_and_so_does_the_release(run: Run) -> None:
    assert "edge-02" in run._gather(0)
    quarantined(run, "edge-02")
    assert set(run._gather(0)) == set(DEVICES) - {"edge-02"}
    run.host = SimpleNamespace(run=SimpleNamespace(selection=SimpleNamespace(strategy="all")))
    received = run.begin(1, run._gather(0))
    assert received.dropped == [], "who is kept out is not missing"
    quarantined(run, "edge-02", "enrolled")
    assert set(run._gather(0)) == set(DEVICES)


def test_an_update_that_came_before_the_quarantine_is_in_no_model(run: Run) -> None:
    received = Received(deltas=Stack(len(DEVICES)))
    for number, device in enumerate(DEVICES):
        received.updates[device] = Trained(samples=100, metrics={}, start_s=0, train_s=1, cpu_s=1)
        received.deltas.free(LENGTH)[:] = np.random.default_rng(number).standard_normal(LENGTH) + 1
        received.deltas.took(device)
    quarantined(run, "edge-02")
    aggregate = run._aggregate(1, received)
    assert aggregate is not None
    assert [score.device for score in aggregate.scores] == [device for device in DEVICES if device != "edge-02"]
    assert received.dropped == ["edge-02"]
    [dropped] = [event.body for event in run.journal.events() if isinstance(event.body, events.DeviceDropped)]
    assert (dropped.device, dropped.reason) == ("edge-02", LEFT_OUT)


@pytest.mark.parametrize("state", ["removed", "drained"])
def test_a_device_that_leaves_or_is_drained_is_asked_no_more_and_finishes_what_it_began(run: Run, state: str) -> None:
    received = Received(deltas=Stack(len(DEVICES)))
    for number, device in enumerate(DEVICES):
        received.updates[device] = Trained(samples=100, metrics={}, start_s=0, train_s=1, cpu_s=1)
        received.deltas.free(LENGTH)[:] = np.random.default_rng(number).standard_normal(LENGTH) + 1
        received.deltas.took(device)
    quarantined(run, "edge-02", state)
    assert set(run._gather(0)) == set(DEVICES) - {"edge-02"}
    aggregate = run._aggregate(1, received)
    assert aggregate is not None
    assert "edge-02" in [score.device for score in aggregate.scores]


def test_who_joins_the_site_is_asked_from_the_next_round_on_once_it_is_there(run: Run) -> None:
    there = ["edge-01", *DEVICES[2:], "edge-11", "edge-12"]
    run.members = lambda: there
    run.host = SimpleNamespace(
        run=SimpleNamespace(needed=lambda devices: devices - 2, selection=SimpleNamespace(asked=lambda devices, least: devices)),
        secure=SimpleNamespace(mode="none"),
    )
    run.exchange = Exchange(SimpleNamespace(get_node_ids=lambda: [1, 2, 3]), lambda: {1: "edge-11", 2: "edge-01"}, run.aside)
    renew(run)
    assert run.plan.devices == ("edge-01", *DEVICES[2:], "edge-11"), "edge-02 left, edge-11 is online, edge-12 is not yet"
    assert run.plan.quorum == 8
    there[:] = ["edge-11"]
    run.plan = replace(run.plan, byzantine=0.3, has_own_quorum=True)
    renew(run)
    assert len(run.plan.devices) == 10, "one device cannot do the run of eight: it goes on as it was"


def test_a_release_takes_back_whom_the_policy_set_aside_too(run: Run) -> None:
    for number in range(1, 5):
        lives(run, number, {"edge-02": ABSURD})
    assert "edge-02" not in run._gather(0)
    quarantined(run, "edge-02", "enrolled")
    assert "edge-02" in run._gather(0)
    assert run.memory.reputation.of("edge-02") == Standing()
    [judged] = [event.body for event in run.journal.events() if isinstance(event.body, events.DeviceJudged)]
    assert (judged.device, judged.before, judged.conduct) == ("edge-02", "quarantined", "trusted")


def test_a_pardon_must_name_a_device_of_the_site() -> None:
    coordinator = {"name": "coordinator", "address": "10.77.0.10"}
    host = HostConfig.model_validate(
        {"site": "clinic", "name": "coordinator", "role": "coordinator", "coordinator": coordinator, "devices": list(DEVICES)}
    )
    assert plan(host, {"options": '{"pardon": ["edge-02"]}'}, "2").pardoned == ("edge-02",)
    with pytest.raises(RunInvalid, match="edge-77 is no device"):
        plan(host, {"options": '{"pardon": ["edge-77"]}'}, "2")


class Sums:
    """Rounds of which only the sum is looked at."""

    growth = 1

    def check(self, run: Run) -> None:
        """Any run will do."""

    def train(self, run: Run, round_: int, devices: dict[str, int]) -> Received:
        return run._train(round_, devices)

    def aggregate(self, run: Run, _: int, received: Received) -> Aggregate:
        return Aggregate(received.deltas.stacked(list(received.updates)).mean(axis=0), [], run.memory.reputation)


@pytest.mark.parametrize(
    ("rule", "weights"), [("guard", {}), ("guard", {"edge-03": 0.5}), ("median", {"edge-03": 0.5}), ("multi-krum", {})]
)
@pytest.mark.parametrize("compression", ["none", "top-k"])
def test_a_rounds_updates_are_in_memory_once(
    run: Run, tmp_path: Path, rule: str, weights: dict[str, float], compression: str
) -> None:
    start = {"w": np.zeros(300_000, np.float32)}
    run.rule = build(rule, 0.2)
    settings, feedback = Compression(mode=compression), Feedback(tmp_path / "feedback")
    rng = np.random.default_rng(0)
    tracemalloc.start()
    try:
        received = Received(deltas=Stack(len(DEVICES)), weights=weights)
        read = reader(received, start)
        for device in reversed(DEVICES):  # they come in any order
            after = {"w": rng.standard_normal(300_000, np.float32)}
            sent, encoded = outgoing(after, start, settings, feedback, TrainRequest(run="1", round=1, rounds=1, seed=1))
            said = Trained(samples=100, metrics={}, start_s=0, train_s=1, cpu_s=1, encoding="delta" if encoded else "model")
            tracemalloc.reset_peak()  # what the device needs is not the coordinator's
            assert read(device, said, sent) is None
            received.updates[device] = said
            read_peak = tracemalloc.get_traced_memory()[1]
            del after, sent
        tracemalloc.reset_peak()
        assert run._aggregate(1, received) is not None
        peak = max(read_peak, tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peak <= 1.3 * 4 * 300_000 * len(DEVICES)


@given(st.permutations(DEVICES), st.permutations(DEVICES), st.integers(1, len(DEVICES)))
def test_updates_are_stacked_in_the_order_that_is_asked_for_whichever_they_came_in(
    came: list[str], asked: list[str], count: int
) -> None:
    stack, here = Stack(len(DEVICES)), set(came[:count])
    for device in came[:count]:
        stack.free(2)[:] = -1  # an update that is rejected leaves its row to the next
        stack.free(2)[:] = DEVICES.index(device)
        stack.took(device)
    order = [device for device in asked if device in here]
    np.testing.assert_array_equal(stack.stacked(order)[:, 0], [DEVICES.index(device) for device in order])


def test_groups_are_mixed_before_the_rule_where_the_site_says_so(run: Run, tmp_path: Path) -> None:
    means = np.random.default_rng(0).standard_normal((5, LENGTH)).astype(np.float32)
    made = [(SimpleNamespace(survivors=list(DEVICES[2 * place : 2 * place + 2])), mean) for place, mean in enumerate(means)]
    counts, names = np.full(5, 2), [str(place) for place in range(5)]
    sums = SecureRounds(Secure(mode="masked", group_size=2), tmp_path)
    for mixing in ("none", "nearest"):
        run.plan = replace(run.plan, rule="krum", byzantine=0.1, mixing=mixing)
        found = sums._judged(Turn(run, 1, Received(), {}), made, 1)
        expected = build("krum", 1 / 5, mixing).aggregate(means, names, counts, Reputation())
        np.testing.assert_array_equal(found.delta, expected.delta)


@pytest.mark.slow
def test_whoever_was_set_aside_before_comes_back_in_rounds_of_sums_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(tmp_path, {"run": {"rounds": 3, "quorum": 0.7}, "privacy": {"mode": "none"}, "aggregation": {"rule": "mean"}})
    small.run(1)
    models = Models(small.places("coordinator").models)
    standings = {"edge-2": asdict(Standing(conduct="quarantined", out=2, terms=1))}
    models.commit(models.versions()[-1].model_copy(update={"reputation": standings}))
    monkeypatch.setattr("edgefl.federation.run.secure_rounds", lambda *_: Sums())
    small.run(2)
    asked = {
        event.round: event.body.devices for event in small.events() if event.run == "2" and event.body.type == "round_started"
    }
    assert [("edge-2" in asked[round_]) for round_ in (1, 2, 3)] == [False, False, True]
