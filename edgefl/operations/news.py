"""What of the journal an operator is told of, and in which words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgefl.events import schema
from edgefl.events.schema import Event
from edgefl.progress import printable
from edgefl.site.observability import Topic

Level = Literal["success", "info", "warning", "failure"]
LEVELS: tuple[Level, ...] = ("success", "info", "warning", "failure")
"""From good to bad; Apprise has the same four."""
_LOW = 0.9
"""Share of a budget that is near its end; the alert EdgeflBudgetLow has the same."""
_MOST_LINES = 20
"""Lines of a message; most channels cut long ones themselves, without a word."""
_MANY = {
    "flag": "updates were flagged",
    "quarantine": "devices were set aside",
    "run": "runs ended",
    "budget": "budgets are near or at their end",
    "drift": "hosts' walls are not as the site says",
}


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened: in a few words, and with its evidence and what to do next."""

    topic: Topic
    level: Level
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to a channel."""

    topic: Topic
    level: Level
    title: str
    body: str


def news(event: Event) -> News | None:
    """What an event is to an operator who does not look; None for most. A function of the event alone: nothing is told twice."""
    match event.body:
        case schema.FlagRaised() as flag:
            detail = f"{flag.rule}: {flag.score:.3g} against {flag.threshold:.3g}; {flag.reason}"
            what = f"{flag.device} was flagged in round {event.round} of run {event.run}"
            return _news("flag", "warning", what, detail, f"edgefl devices {flag.device}")
        case schema.DeviceJudged(conduct="quarantined") as judged:
            return _news(
                "quarantine",
                "failure",
                f"{judged.device} is left out of rounds",
                judged.reason,
                f"edgefl devices {judged.device}",
            )
        case schema.DeviceState(state="quarantined") as state:
            return _news("quarantine", "failure", f"{state.device} was cut off", state.detail, f"edgefl devices {state.device}")
        case schema.RunFinished() as run:
            levels: dict[str, Level] = {"completed": "success", "stopped": "info", "failed": "failure"}
            reached = f"accuracy {run.accuracy:.3f}" if run.accuracy is not None else ""
            hint = "edgefl run --resume" if run.status == "failed" else "edgefl rounds"
            return _news("run", levels[run.status], f"run {event.run} {_ENDS[run.status]}", run.reason or reached, hint)
        case schema.PrivacyRefused() | schema.PrivacySpent() | schema.ModelPrivacySpent() as ledger:
            return _of_budget(ledger)
        case schema.IsolationDrift() as drift:
            what = f"the walls of {drift.device} were changed" + (", and are right again" if drift.healed else "")
            return _news("drift", "failure", what, "; ".join(drift.found), "edgefl verify")
        case schema.IsolationProven() as proof if proof.open_forbidden or proof.closed_required:
            wrong = "; ".join([*proof.open_forbidden, *proof.closed_required])
            return _news("drift", "failure", f"{proof.device} is not isolated as the site says", wrong, "edgefl up")
    return None


def messages(site: str, told: Iterable[News]) -> list[Message]:
    """A message for each topic, however much there is of it."""
    by_topic: dict[Topic, list[News]] = {}
    for one in told:
        by_topic.setdefault(one.topic, []).append(one)
    return [_message(site, topic, found) for topic, found in by_topic.items()]


_MODELS_NEXT = "raise privacy.epsilon_limit, or keep the last model"
_ENDS = {"completed": "is complete", "stopped": "was stopped", "failed": "failed"}


def _news(topic: Topic, level: Level, what: str, detail: str, hint: str) -> News:
    return News(topic, level, printable(what), printable(f"{detail} (next: {hint})".strip()))


def _message(site: str, topic: Topic, found: Sequence[News]) -> Message:
    level = max((one.level for one in found), key=LEVELS.index)
    if len(found) == 1:
        return Message(topic, level, f"{site}: {found[0].what}", found[0].detail)
    lines = [f"{one.what}: {one.detail}" for one in found[:_MOST_LINES]]
    if len(found) > _MOST_LINES:
        lines.append(f"and {len(found) - _MOST_LINES} more (next: edgefl status)")
    return Message(topic, level, f"{site}: {len(found)} {_MANY[topic]}", "\n".join(lines))


def _of_budget(ledger: schema.PrivacyRefused | schema.PrivacySpent | schema.ModelPrivacySpent) -> News | None:
    match ledger:
        case schema.PrivacyRefused(device=device):
            what = f"{device} trains no more: its privacy budget is spent"
            return _news("budget", "failure", what, ledger.reason, f"edgefl devices {device}")
        case schema.ModelPrivacySpent(rounds_left=0):
            what = "the models have spent their privacy budget: no further round is covered"
            return _news("budget", "failure", what, f"epsilon {ledger.spent:.2f} of {ledger.limit:g}", _MODELS_NEXT)
        case schema.PrivacySpent(device=device):
            who, whose, hint = f"{device} has", "its", f"edgefl devices {device}"
        case _:
            who, whose, hint = "the models have", "their", _MODELS_NEXT
    line = _LOW * ledger.limit
    if not ledger.spent - ledger.cost < line <= ledger.spent:
        return None  # this round's cost did not take it over the line
    left = f"{ledger.rounds_left} rounds are left at this rate" if ledger.rounds_left is not None else ""
    return _news("budget", "warning", f"{who} spent {ledger.spent / ledger.limit:.0%} of {whose} privacy budget", left, hint)
