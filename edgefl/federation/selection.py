"""Which devices a round asks: all, random ones, those that promise most, or those that will hold the deadline.

A pure function of what earlier rounds showed, deterministic for a seed. `performance` is in the spirit of Oort (Lai et al., 2021,
arXiv:2010.06081): loss says who has still something to teach, time what it costs, and part of every round is for whoever waited
longest, so that each of n devices is asked at least every ceil(n / places) rounds, where `places` are those for exploration.

A device reports its own loss, so it may lie. Its loss counts against the usual one, as at least `LEAST_LOSS` and at most
`MOST_LOSS`: the best lie makes a device half as likely again as it would be, and never certain. Time is the coordinator's own
clock, which nobody can make run backwards, and being quicker than is usual gains nothing; the number of records, which nobody can
check, does not count; trust that a device lost by flags takes from its promise.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgefl.events import schema as events
from edgefl.events.journal import Journal
from edgefl.federation.rounds import Plan
from edgefl.site.model import Selection

MEMORY = 0.5
"""Share of the past in a device's mean seconds: it may have become slower or faster."""
LEAST_LOSS, MOST_LOSS = 0.75, 1.5
"""A device's loss over the usual one, as far as it counts."""
MARGIN = 0.8
"""A device is counted on when it is expected within this share of the deadline."""


_TELLING: Mapping[str, type[events.Body]] = {
    "round_started": events.RoundStarted,
    "update_received": events.UpdateReceived,
    "device_facts": events.DeviceFacts,
}


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one device. asked: the last round (of any run, counted through) that asked it, 0 if none did. loss: as it
    reported last. seconds: mean from message to reply on the coordinator's clock. missed: how many times in a row it gave no
    update. cores, memory_mb: as provisioning found them.
    """

    asked: int = 0
    loss: float | None = None
    seconds: float | None = None
    missed: int = 0
    cores: float | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Every device's record, as the journal's events tell it; count: rounds begun so far."""

    records: Mapping[str, Record] = field(default_factory=dict)
    count: int = 0

    def of(self, device: str) -> Record:
        """The device's record; an empty one for a device that is new."""
        return self.records.get(device, Record())

    @classmethod
    def told_by(cls, journal: Journal) -> History:
        """What the journal holds of earlier runs and of provisioning."""
        history = cls()
        # A journal holds years: its events are folded as they are read, not gathered first.
        for record in heapq.merge(*(journal.records(kind=kind) for kind in _TELLING), key=lambda record: int(record["seq"])):
            history = history.after(_TELLING[record["body"]["type"]].model_validate(record["body"]))
        return history

    def after(self, body: events.Body) -> History:
        """The history after an event; most change nothing."""
        if isinstance(body, events.RoundStarted):
            count = self.count + 1
            asked = {device: replace(self.of(device), asked=count, missed=self.of(device).missed + 1) for device in body.devices}
            return History({**self.records, **asked}, count)
        if isinstance(body, events.UpdateReceived):
            known = self.of(body.device)
            # Its parts are the device's words, but together never less than the coordinator measured.
            took = body.start_s + body.train_s + body.transfer_s
            seconds = took if known.seconds is None else MEMORY * known.seconds + (1 - MEMORY) * took
            loss = body.loss if body.loss is not None and math.isfinite(body.loss) else None
            return self._with(body.device, replace(known, loss=loss, seconds=seconds, missed=0))
        if isinstance(body, events.DeviceFacts):
            return self._with(body.device, replace(self.of(body.device), cores=body.cores, memory_mb=body.memory_mb))
        return self

    def _with(self, device: str, record: Record) -> History:
        return replace(self, records={**self.records, device: record})


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a round asks, in the given order, and for each why; and who is there and is not asked."""

    devices: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()


def choose(  # noqa: PLR0917  # a round's whole situation
    settings: Selection,
    there: Sequence[str],
    history: History,
    trust: Mapping[str, float],
    plan: Plan,
    round_: int,
) -> Choice:
    """Choose among the devices that are there and may train.

    trust: 1 for a device without flags, less with them (Standing.trust). Never fewer than the quorum are asked, if there.
    """
    count = settings.asked(len(there), plan.quorum)
    if settings.strategy == "all" or count >= len(there):
        return Choice(tuple(there), {})
    rng = random.Random(f"{plan.seed} {round_}")  # noqa: S311  # a fair draw, not a secret
    shuffled = rng.sample(list(there), len(there))
    if settings.strategy == "random":
        return _ordered(there, dict.fromkeys(shuffled[:count], "drawn at random"))
    explored = min(count, math.ceil(settings.exploration * count)) if settings.exploration else 0
    waited = sorted(shuffled, key=lambda device: history.of(device).asked)[:explored]
    why = {device: _waited(history, device) for device in waited}
    rest = [device for device in shuffled if device not in why]
    if settings.strategy == "performance":
        ranked = _by_promise(rest, history, trust, rng)
    else:
        ranked = _by_fitness(rest, history, plan.deadline_s)
    why |= dict(ranked[: count - len(why)])
    return _ordered(there, why)


def _by_promise(
    devices: Sequence[str], history: History, trust: Mapping[str, float], rng: random.Random
) -> list[tuple[str, str]]:
    """A weighted draw without return (Efraimidis and Spirakis, 2006): the more a device promises, the likelier it comes early."""
    losses = [loss for device in devices if (loss := history.of(device).loss) is not None]
    times = [seconds for device in devices if (seconds := history.of(device).seconds) is not None]
    usual, typical = (statistics.median(values) if values else 0.0 for values in (losses, times))

    def promise(device: str) -> tuple[float, str]:
        known = history.of(device)
        loss = 1.0 if known.loss is None or usual <= 0 else min(max(known.loss / usual, LEAST_LOSS), MOST_LOSS)
        slow = 1.0 if known.seconds is None or typical <= 0 else max(1.0, known.seconds / typical)
        weight = loss / slow * trust.get(device, 1.0) / 2 ** min(known.missed, 16)
        return weight, f"drawn with weight {weight:.2g}: {loss:.2g} of the usual loss, {slow:.2g} of the usual time"

    found = {device: promise(device) for device in devices}
    order = {device: rng.random() ** (1 / max(found[device][0], 1e-6)) for device in devices}
    return [(device, found[device][1]) for device in sorted(devices, key=lambda device: -order[device])]


def _by_fitness(devices: Sequence[str], history: History, deadline_s: float) -> list[tuple[str, str]]:
    """Those that hold the deadline, in random order; then those of which nothing is known; then the others, fastest first."""
    measured = [known for device in devices if (known := history.of(device)).seconds is not None]
    works = [known.seconds * known.cores for known in measured if known.cores and known.seconds is not None]
    work = statistics.median(works) if works else None

    def expected(device: str) -> float | None:
        known = history.of(device)
        seconds = known.seconds
        if seconds is None and work is not None and known.cores:
            seconds = work / known.cores
        return None if seconds is None else seconds * 2 ** min(known.missed, 16)

    def rank(device: str) -> tuple[int, float, float]:
        seconds, memory = expected(device), history.of(device).memory_mb
        short = -float(memory) if memory is not None else 0.0
        if seconds is None:
            return 1, 0.0, short
        return (0, 0.0, 0.0) if seconds <= MARGIN * deadline_s else (2, seconds, short)

    def reason(device: str) -> str:
        seconds, known = expected(device), history.of(device)
        if seconds is None:
            return "nothing is known of its speed"
        source = "as measured" if known.seconds is not None else f"from its {known.cores:g} cores"
        return f"expected in {seconds:.1f} s ({source}) of {deadline_s:g}"

    return [(device, reason(device)) for device in sorted(devices, key=rank)]


def _waited(history: History, device: str) -> str:
    asked = history.of(device).asked
    return f"not asked for {history.count - asked} rounds" if asked else "never asked before"


def _ordered(there: Sequence[str], why: Mapping[str, str]) -> Choice:
    chosen = tuple(device for device in there if device in why)
    return Choice(chosen, {device: why[device] for device in chosen}, tuple(device for device in there if device not in why))
