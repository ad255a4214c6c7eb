"""What an operator is told of the journal, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edgefl.events import schema as s
from edgefl.events.schema import Event
from edgefl.operations.news import LEVELS, News, messages, news

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
LEDGER = {"device": "edge-03", "limit": 8.0, "delta": 1e-5, "sigma": 1.1, "sampling_rate": 0.1, "run_spent": 1.0}
MODELS = {"limit": 6.0, "delta": 1e-5, "sigma": 3.0, "run_spent": 1.0, "clip": 1.0, "next_clip": 1.0}
PROBED = {"device": "edge-02", "probes": 9, "proof_sha256": ""}
JUDGED = {"device": "edge-07", "reason": "3 of 5 rounds"}
FLAG = s.FlagRaised(device="edge-07", rule="guard", score=9.126, threshold=2.5, peers=[0.1], reason="points away")


def event(body: s.Body) -> Event:
    return Event(seq=7, at=AT, run="4", round=12, body=body, previous="", hash="")


@pytest.mark.parametrize(
    ("body", "topic", "level", "what", "detail"),
    [
        (FLAG, "flag", "warning", "edge-07 was flagged in round 12 of run 4", "guard: 9.13 against 2.5; points away"),
        (
            s.DeviceJudged(before="probation", conduct="quarantined", **JUDGED),
            "quarantine", "failure", "edge-07 is left out of rounds", "3 of 5 rounds (next: edgefl devices edge-07)",
        ),
        (s.DeviceState(device="edge-07", state="quarantined", detail="stolen"), "quarantine", "failure", "was cut off", "stolen"),
        (s.RunFinished(status="completed", accuracy=0.8125), "run", "success", "run 4 is complete", "accuracy 0.812"),
        (s.RunFinished(status="stopped", reason="alice"), "run", "info", "run 4 was stopped", "alice (next: edgefl rounds)"),
        (s.RunFinished(status="failed", reason="no quorum"), "run", "failure", "run 4 failed", "next: edgefl run --resume"),
        (
            s.PrivacyRefused(device="edge-03", spent=8, limit=8, cost=0.5, reason="the ledger refuses"),
            "budget", "failure", "edge-03 trains no more", "the ledger refuses",
        ),
        (s.PrivacySpent(spent=7.3, cost=0.2, rounds_left=3, **LEDGER), "budget", "warning", "91% of its", "3 rounds are left"),
        (
            s.ModelPrivacySpent(spent=5.5, cost=0.2, rounds_left=2, **MODELS),
            "budget", "warning", "the models have spent 92% of their", "2 rounds are left",
        ),
        (
            s.ModelPrivacySpent(spent=5.9, cost=0.2, rounds_left=0, **MODELS),
            "budget", "failure", "no further round is covered", "epsilon 5.90 of 6 (next: raise privacy.epsilon_limit",
        ),
        (
            s.IsolationDrift(device="edge-02", found=["a rule is gone"], healed=True, at=AT),
            "drift", "failure", "right again", "a rule is gone",
        ),
        (
            s.IsolationProven(open_forbidden=["internet:443"], closed_required=[], **PROBED),
            "drift", "failure", "edge-02 is not isolated", "internet:443 (next: edgefl up)",
        ),
    ],
)  # fmt: skip
def test_what_an_operator_would_want_to_know_is_told(body, topic, level, what, detail):
    told = news(event(body))
    assert (told.topic, told.level) == (topic, level)
    assert what in told.what
    assert detail in told.detail


@pytest.mark.parametrize(
    "body",
    [
        s.DeviceJudged(before="trusted", conduct="suspect", **JUDGED),
        s.DeviceState(device="edge-07", state="offline"),
        s.PrivacySpent(spent=7.1, cost=0.2, **LEDGER),
        s.PrivacySpent(spent=7.5, cost=0.2, **LEDGER),
        s.ModelPrivacySpent(spent=5.3, cost=0.2, rounds_left=4, **MODELS),
        s.ModelPrivacySpent(spent=5.7, cost=0.2, rounds_left=1, **MODELS),
        s.IsolationProven(open_forbidden=[], closed_required=[], **PROBED),
        s.OperatorAction(who="alice", action="look"),
    ],
)
def test_what_happens_every_day_is_not(body):
    assert news(event(body)) is None


def test_what_a_device_says_of_itself_cannot_steer_whoever_reads_it():
    told = news(event(FLAG.model_copy(update={"reason": "\x1b]8;;evil\n\x1b[31m"})))
    assert told.detail.isprintable()


def test_much_at_once_is_one_message_of_each_topic_as_grave_as_its_gravest():
    flags = [News("flag", "warning", f"edge-{number} was flagged", "why") for number in range(100)]
    [many, one] = messages(
        "clinic",
        [
            *flags,
            News("run", "success", "run 4 is complete", "accuracy 0.9"),
        ],
    )
    assert (many.title, many.level) == ("clinic: 100 updates were flagged", "warning")
    assert many.body.splitlines()[0] == "edge-0 was flagged: why"
    assert many.body.splitlines()[-1] == "and 80 more (next: edgefl status)"
    assert (one.title, one.body) == ("clinic: run 4 is complete", "accuracy 0.9")
    both = [News("run", "failure", "a", ""), News("run", "info", "b", "")]
    assert messages("clinic", both)[0].level == "failure"


def test_the_levels_are_those_that_apprise_has():
    import apprise

    assert set(LEVELS) == {str(getattr(kind, "value", kind)) for kind in apprise.NOTIFY_TYPES}
