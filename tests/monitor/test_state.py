from __future__ import annotations

import io
import json
import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from edgefl.cli.rounds import detail
from edgefl.console import summary
from edgefl.events import schema as s
from edgefl.events.schema import BODIES, Event
from edgefl.monitor.state import FederationState

BEGAN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DEVICES = ["edge-01", "edge-02", "edge-07"]


class Story:
    """Events as the journal would hand them out, and the state after them."""

    def __init__(self) -> None:
        self.state = FederationState.enrolled("clinic", DEVICES, epsilon_limit=8.0)
        self.events: list[Event] = []

    def say(self, body: s.Body, *, run: str = "1", round_: int = 0) -> FederationState:
        seq = len(self.events) + 1
        at = BEGAN + timedelta(seconds=seq)
        said = {"seq": seq, "at": at, "run": run, "round": round_, "version": 1, "previous": "", "hash": ""}
        event = Event.model_validate({**said, "body": json.loads(body.model_dump_json())})
        self.events.append(event)
        self.state = self.state.apply(event)
        return self.state

    def start(self, run: str = "1", first_round: int = 1, policy: dict[str, int] | None = None, **begins: str) -> None:
        body = s.RunStarted(
            site="clinic",
            site_hash="ab",
            task="images",
            rounds=10,
            devices=DEVICES,
            quorum=2,
            rule="guard",
            first_round=first_round,
            policy=policy or {},
            **begins,
        )
        self.say(body, run=run)

    def update(self, device: str, round_: int, *, verdict: str = "accept", flag: bool = False, run: str = "1") -> None:
        received = s.UpdateReceived(
            device=device, samples=100, bytes_up=10, bytes_down=40, train_s=2, transfer_s=0.5, loss=0.3, accuracy=0.9, cpu_s=1
        )
        self.say(received, run=run, round_=round_)
        scored = s.UpdateScored(
            device=device, rule="guard", score=1, threshold=2, verdict=verdict, weight=0.5, norm=1, cosine=0.9, reputation=0.8
        )
        self.say(scored, run=run, round_=round_)
        if flag:
            found = s.FlagRaised(device=device, rule="guard", score=9, threshold=2, peers=[0.5, 1], reason="points away")
            self.say(found, run=run, round_=round_)

    def round(self, number: int, flagged: tuple[str, ...] = (), run: str = "1") -> None:
        self.say(s.RoundStarted(devices=DEVICES, deadline_s=60), run=run, round_=number)
        for device in DEVICES:
            self.update(device, number, run=run, flag=device in flagged, verdict="reject" if device in flagged else "accept")
        finished = s.RoundFinished(
            accuracy=0.5 + number / 100,
            loss=1 / number,
            participants=DEVICES,
            dropped=[],
            rejected=[],
            flagged=list(flagged),
            bytes_up=30,
            bytes_down=120,
            seconds={"train": 2.0, "score": 0.5},
        )
        self.say(finished, run=run, round_=number)


@pytest.fixture
def story():
    return Story()


def states(state: FederationState) -> dict[str, str]:
    return {name: row.state for name, row in state.devices.items()}


def test_before_any_event_the_sites_devices_are_enrolled(story):
    assert states(story.state) == dict.fromkeys(DEVICES, "enrolled")
    assert story.state.devices["edge-01"].epsilon.limit == 8.0


def test_a_round_moves_devices_from_training_to_waiting_and_counts_their_bytes(story):
    story.start()
    story.say(s.RoundStarted(devices=["edge-01", "edge-02"], deadline_s=60), round_=1)
    assert states(story.state) == {"edge-01": "training", "edge-02": "training", "edge-07": "enrolled"}
    story.update("edge-01", 1)
    row, device = story.state.rounds[0], story.state.devices["edge-01"]
    assert states(story.state)["edge-01"] == "waiting"
    assert (row.bytes_up, row.bytes_down, row.state) == (10, 40, "running")
    assert (row.updates["edge-01"].verdict, row.updates["edge-01"].train_s) == ("accept", 2)
    assert (device.round, device.accuracy, device.samples, device.cpu, device.reputation) == (1, 0.9, 100, 0.5, 0.8)


def test_a_finished_round_has_its_result_its_stages_and_its_time(story):
    story.start()
    story.round(1)
    row = story.state.rounds[0]
    assert (row.state, row.accuracy, row.participants, row.seconds["train"]) == ("finished", 0.51, tuple(DEVICES), 2.0)
    assert row.wall_s == 7.0
    assert story.state.totals.seconds == {"train": 2.0, "score": 0.5}


def test_a_skipped_round_keeps_the_reason_and_leaves_nobody_training(story):
    story.start()
    story.say(s.RoundStarted(devices=DEVICES, deadline_s=60), round_=1)
    story.say(s.DeviceDropped(device="edge-01", reason="no reply within 60 s"), round_=1)
    story.say(s.RoundSkipped(reason="1 of 2 updates", participants=["edge-02"]), round_=1)
    row = story.state.rounds[0]
    assert (row.state, row.reason, row.updates["edge-01"].dropped) == ("skipped", "1 of 2 updates", "no reply within 60 s")
    assert "training" not in states(story.state).values()
    assert story.state.devices["edge-01"].dropped == 1


def test_a_flag_makes_a_device_suspect_until_three_updates_in_a_row_are_accepted(story):
    story.start()
    story.round(1, flagged=("edge-07",))
    flag = story.state.devices["edge-07"].flags[0]
    assert (flag.run, flag.round, flag.score, flag.threshold, flag.peers) == ("1", 1, 9, 2, (0.5, 1))
    assert states(story.state)["edge-07"] == "suspect"
    for number in (2, 3):
        story.round(number)
        assert states(story.state)["edge-07"] == "suspect"
    story.round(4)
    assert states(story.state)["edge-07"] == "waiting"
    assert story.state.devices["edge-07"].flag_count == 1, "the evidence stays"


def test_a_rejected_update_ends_the_good_conduct(story):
    story.start()
    story.round(1, flagged=("edge-07",))
    story.round(2)
    story.round(3)
    story.update("edge-07", 4, verdict="down-weight")
    story.round(5)
    assert states(story.state)["edge-07"] == "suspect"


def judged(conduct: str, before: str, reason: str = "flagged in 6 of its last 10 rounds") -> s.DeviceJudged:
    return s.DeviceJudged(device="edge-07", before=before, conduct=conduct, reason=reason, flags=6, window=10)


def test_where_a_policy_judges_a_flag_alone_makes_no_suspect_and_the_policys_verdict_is_shown(story):
    story.start(policy={"suspect_after": 2})
    story.round(1, flagged=("edge-07",))
    assert states(story.state)["edge-07"] == "waiting"
    story.say(judged("suspect", "trusted"), round_=2)
    for number in (3, 4, 5, 6):
        story.round(number)
    assert states(story.state)["edge-07"] == "suspect", "only the policy clears it"
    story.say(judged("quarantined", "suspect"), round_=6)
    row = story.state.devices["edge-07"]
    assert (row.state, row.suspect, row.detail) == ("quarantined", False, "flagged in 6 of its last 10 rounds")
    story.say(judged("probation", "quarantined", "its quarantine is over"), round_=9)
    assert states(story.state)["edge-07"] == "suspect"
    story.say(judged("trusted", "probation"), round_=12)
    assert states(story.state)["edge-07"] == "waiting"


def test_what_the_policy_takes_back_the_operators_quarantine_keeps(story):
    story.say(s.DeviceState(device="edge-07", state="quarantined", detail="by hand"))
    story.say(judged("trusted", "quarantined"))
    assert states(story.state)["edge-07"] == "quarantined"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["online"], "online"),
        (["online", "offline"], "offline"),
        (["online", "training"], "training"),
        (["online", "suspect"], "suspect"),
        (["online", "suspect", "offline"], "offline"),
        (["online", "quarantined"], "quarantined"),
        (["quarantined", "online"], "quarantined"),
        (["online", "quarantined", "enrolled"], "online"),
        (["online", "quarantined", "removed"], "removed"),
    ],
)
def test_what_stands_against_a_device_outweighs_what_it_does(story, said, shown):
    for state in said:
        story.say(s.DeviceState(device="edge-01", state=state))
    assert states(story.state)["edge-01"] == shown


def test_the_ledgers_copy_and_its_refusal_are_shown(story):
    spent = s.PrivacySpent(
        device="edge-01", spent=3.1, limit=8, delta=1e-5, sigma=1.1, sampling_rate=0.1, run_spent=0.4, rounds_left=9
    )
    story.say(spent, round_=1)
    story.say(s.PrivacyRefused(device="edge-02", spent=7.9, limit=8, cost=0.3, reason="0.3 is more than is left"), round_=1)
    one, two = story.state.devices["edge-01"].epsilon, story.state.devices["edge-02"].epsilon
    assert (one.spent, one.limit, one.rounds_left, one.refused) == (3.1, 8, 9, "")
    assert (two.spent, two.refused) == (7.9, "0.3 is more than is left")


def test_the_coordinators_ledger_is_shown_as_the_budget_of_the_models(story):
    assert story.state.models is None
    terms = {"limit": 8, "delta": 1e-5, "sigma": 3.4, "clip": 1.0, "next_clip": 0.9}
    story.say(s.ModelPrivacySpent(spent=1.3, run_spent=1.3, rounds_left=30, **terms), round_=1)
    story.say(s.ModelPrivacySpent(spent=7.1, run_spent=1.9, rounds_left=2, **terms), round_=2)
    models = story.state.models
    assert (models.spent, models.limit, models.run_spent, models.rounds_left) == (7.1, 8, 1.9, 2)
    assert summary.most_spent(story.state) == models
    assert FederationState.from_json(story.state.to_json()).models == models


def test_certificates_and_proofs_belong_to_their_subjects(story):
    def issue(subject: str, role: str, serial: str) -> None:
        story.say(
            s.CertificateIssued(
                subject=subject, role=role, serial=serial, not_before=BEGAN, not_after=BEGAN + timedelta(hours=24)
            )
        )

    issue("edge-01", "device", "a1")
    issue("coordinator", "gate", "b2")
    issue("edge-01", "device", "c3")
    proof = s.IsolationProven(device="edge-01", probes=14, open_forbidden=["10.77.0.12:22"], closed_required=[], proof_sha256="d")
    story.say(proof)
    assert story.state.devices["edge-01"].certificate.serial == "c3"
    assert not story.state.devices["edge-01"].isolation.holds
    assert set(story.state.certificates) == {"device/edge-01", "gate/coordinator"}
    story.say(s.IsolationProven(**{**proof.model_dump(exclude={"type"}), "device": "hub", "role": "coordinator"}))
    assert set(story.state.devices) == set(DEVICES), "the coordinator is no device"
    assert not story.state.proofs["hub"].holds
    assert FederationState.from_json(story.state.to_json()) == story.state
    story.say(s.CertificateRevoked(subject="edge-01", serial="a1", reason="old"))
    assert story.state.devices["edge-01"].certificate.revoked == "", "an older certificate's end is not the newer one's"
    story.say(s.CertificateRevoked(subject="edge-01", serial="c3", reason="lost"))
    assert story.state.devices["edge-01"].certificate.revoked == "lost"


def test_a_new_run_begins_its_own_table_and_the_last_one_is_kept(story):
    story.start("1")
    story.round(1)
    story.say(s.RunFinished(status="completed", accuracy=0.9, model="m", model_sha256="h"), run="1")
    assert set(states(story.state).values()) == {"online"}
    story.start("2")
    assert story.state.rounds == ()
    assert [(run.id, run.status, run.accuracy) for run in story.state.runs] == [("1", "completed", 0.9)]
    assert (story.state.run.id, story.state.totals.runs, story.state.totals.rounds) == ("2", 2, 1)


def test_a_run_that_goes_on_after_a_checkpoint_keeps_the_rounds_before(story):
    story.start()
    story.round(1)
    story.round(2)
    story.say(s.RoundStarted(devices=DEVICES, deadline_s=60), round_=3)
    story.start(first_round=3)
    assert [row.number for row in story.state.rounds] == [1, 2]
    assert story.state.runs == ()


def test_a_run_that_goes_on_from_a_dead_one_keeps_its_rounds_and_ends_where_it_should(story):
    story.start("1")
    story.round(1)
    story.round(2)
    story.say(s.RoundStarted(devices=DEVICES, deadline_s=60), round_=3)
    story.say(s.RunFinished(status="failed", reason="killed"))
    story.start("2", first_round=3, resumes="1")
    assert [(row.number, row.state) for row in story.state.rounds] == [(1, "finished"), (2, "finished")]
    assert [(run.id, run.status) for run in story.state.runs] == [("1", "failed")]
    assert (story.state.run.id, story.state.run.status, story.state.run.resumes) == ("2", "running", "1")
    assert summary.last_round(story.state) == story.state.run.rounds
    story.say(s.RunFinished(status="failed", reason="killed again"), run="2")
    story.start("3", first_round=3, resumes="1")
    assert [row.number for row in story.state.rounds] == [1, 2], "two deaths in a row are one training all the same"
    story.start("9")
    story.start("10", first_round=3, resumes="1")
    assert story.state.rounds == (), "another run's rounds are not this one's"


def test_the_next_start_is_chosen_taken_and_chosen_back(story):
    story.say(s.StartChosen(who="alice", model="1/2", sha256="0" * 64), run="")
    assert story.state.start == "1/2"
    story.start("1", resumes="0")
    assert story.state.start == "1/2", "a run that goes on has its own model"
    story.start("2", start="1/2")
    assert story.state.start == ""
    story.say(s.StartChosen(who="alice", model="1/2"), run="")
    story.say(s.StartChosen(who="alice"), run="")
    assert story.state.start == ""


def test_an_event_that_comes_twice_changes_nothing(story):
    story.start()
    story.round(1)
    assert story.state.apply_all(story.events) is story.state


def test_late_events_of_another_run_do_not_touch_this_ones_rounds(story):
    story.start("1")
    story.start("2")
    story.say(s.RoundStarted(devices=DEVICES, deadline_s=60), run="2", round_=1)
    before = story.state.rounds
    story.update("edge-01", 1, run="1")
    story.say(s.RunFinished(status="failed", reason="superseded"), run="1")
    assert story.state.rounds == before
    assert (story.state.run.status, story.state.runs[0].status) == ("running", "failed")


def test_only_recent_rounds_keep_their_single_updates(story):
    story.start()
    for number in range(1, 61):
        story.say(s.RoundStarted(devices=DEVICES, deadline_s=60), round_=number)
        story.update("edge-01", number)
    assert [bool(row.updates) for row in story.state.rounds] == [False] * 10 + [True] * 50


def test_a_state_travels_as_json_with_absurd_numbers_too(story):
    story.start()
    story.round(1, flagged=("edge-07",))
    absurd = s.UpdateScored(
        device="edge-07", rule="guard", score=math.inf, threshold=2, verdict="reject", weight=0, norm=math.inf, cosine=-1
    )
    state = story.say(absurd, round_=1)
    assert FederationState.from_json(state.to_json()) == state
    light = FederationState.from_json(state.to_json(updates=False))
    assert light.rounds[0].updates == {}
    assert light.devices == state.devices


def test_folding_on_from_a_snapshot_is_folding_from_the_beginning(story):
    story.start()
    for number in range(1, 5):
        story.round(number, flagged=("edge-07",) if number % 2 else ())
    half = FederationState.enrolled("clinic", DEVICES, epsilon_limit=8.0).apply_all(story.events[:20])
    assert FederationState.from_json(half.to_json()).apply_all(story.events[15:]) == story.state


def test_an_event_of_a_newer_kind_only_moves_the_seq(story):
    before = story.state
    after = story.say(BODIES.validate_python({"type": "audit_measured", "auc": 0.5}))
    assert after.seq == before.seq + 1
    assert after.devices == before.devices


def test_a_state_never_changes_under_its_holder(story):
    story.start()
    story.round(1)
    before, text = story.state, story.state.to_json()
    story.round(2, flagged=("edge-01",))
    assert before.to_json() == text


@pytest.mark.slow
def test_a_long_journal_is_folded_in_a_few_seconds(story):
    story.start()
    for number in range(1, 1001):
        story.round(number)
    began = time.process_time()
    FederationState.enrolled("clinic", DEVICES).apply_all(story.events)
    each_us = (time.process_time() - began) / len(story.events) * 1e6
    assert each_us < 200, f"{each_us:.0f} µs an event"


def test_a_masked_round_shows_its_sums_and_says_that_single_updates_are_not_judged(story):
    story.start()
    story.say(s.RoundStarted(devices=DEVICES, deadline_s=60, secure="masked"), round_=1)
    received = {"samples": 100, "bytes_up": 10, "bytes_down": 40, "train_s": 2, "transfer_s": 0.5}
    story.say(s.UpdateReceived(device="edge-01", **received), round_=1)
    story.say(s.SumUnmasked(members=DEVICES[:2], survivors=DEVICES[:2], needed=2), round_=1)
    story.say(s.SumLost(members=DEVICES[2:], reason="0 of 1 devices sent their updates, and 1 are needed"), round_=1)
    scored = {"rule": "median", "score": 1, "threshold": 2, "verdict": "accept", "weight": 1, "norm": 1, "cosine": 0.9}
    story.say(s.SumScored(members=DEVICES[:2], **scored), round_=1)
    row = story.state.rounds[0]
    assert row.updates["edge-01"].masked
    assert not row.updates["edge-01"].verdict
    assert [(made.members, made.survivors, made.lost[:4], made.verdict) for made in row.sums] == [
        (tuple(DEVICES[:2]), tuple(DEVICES[:2]), "", "accept"),
        (tuple(DEVICES[2:]), (), "0 of", ""),
    ]
    assert FederationState.from_json(story.state.to_json()) == story.state
    shown = io.StringIO()
    Console(file=shown, width=140).print(detail(row))
    for said in ("a single update has no score", "edge-01 edge-02", "lost", "masked"):
        assert said in shown.getvalue()
