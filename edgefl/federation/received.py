"""What came back in a round, and what its new model is worth by the devices' own measurements."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgefl.events import schema as events
from edgefl.federation import rounds
from edgefl.federation.aggregation.validate import Rejection
from edgefl.federation.aggregation.vectors import Matrix, Template, Vector, room
from edgefl.federation.messages import Arrays, Evaluated, EvaluateRequest, Failed, Trained
from edgefl.federation.question import Question
from edgefl.federation.rounds import Measurement, Timing
from edgefl.federation.updates import incoming

if TYPE_CHECKING:
    from edgefl.federation.run import Run

Read = Callable[[str, Trained, Arrays], Rejection | None]

EVALUATE_SHARE = 0.5
"""Share of the deadline that measuring may take."""
MOST_DETAIL = 500
"""Characters of a device's own words that the log and the journal keep."""

log = logging.getLogger("edgefl")


class Stack:
    """A round's updates in one matrix, written into it as they come: a second copy of them all would be the round's peak.

    room: how many may come. Rows that none came for are never touched, and take no memory.
    """

    def __init__(self, room: int = 0) -> None:
        self._room = room
        self._rows: dict[str, int] = {}
        self._left_out: set[str] = set()
        self._matrix: Matrix | None = None

    def free(self, length: int) -> Vector:
        """The row, (length,), that the next update is read into; it is not one of them before `took`."""
        if self._matrix is None:
            self._matrix = room(self._room, length)
        row: Vector = self._matrix[len(self._rows)]
        return row

    def took(self, device: str) -> None:
        """The free row is the device's update."""
        self._rows[device] = len(self._rows)

    def leave_out(self, device: str) -> None:
        """The device's update is handed over to nobody."""
        self._left_out.add(device)

    def stacked(self, devices: Sequence[str]) -> Matrix:
        """Hand over the updates of exactly these devices, in this order, (n, p); there is nothing left here afterwards."""
        there = self._rows.keys() - self._left_out
        if self._matrix is None or there != set(devices):
            raise ValueError(f"there are updates of {sorted(there)}, not of {sorted(devices)}")
        matrix, rows, held = self._matrix, self._rows, list(self._rows)
        for place, device in enumerate(devices):
            if (row := rows[device]) != place:
                other = held[place]
                moved = matrix[place].copy()
                matrix[place], matrix[row] = matrix[row], moved
                rows[other], held[row] = row, other
        self._matrix, self._rows = None, {}
        return matrix[: len(devices)]


@dataclass(slots=True)
class Received:
    """What came back in a round, judged one by one. bytes_updates: of bytes_up, those of the updates that were accepted.

    down: what each device's request to train took. models_down: how many messages brought a model, of bytes_down. weights: what
    an update counts, where less than whole. said: what the journal hears of the updates when the
    round counts, and only then: a round that is done again flags nobody twice.
    """

    updates: dict[str, Trained] = field(default_factory=dict)
    deltas: Stack = field(default_factory=Stack)
    rejected: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    bytes_up: int = 0
    bytes_updates: int = 0
    down: dict[str, int] = field(default_factory=dict)
    bytes_down: int = 0
    models_down: int = 0
    send_s: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    said: list[events.AnyBody] = field(default_factory=list)

    def ratio(self, values: int) -> dict[str, float]:
        """How many times smaller than the model in float32 the messages about it were, by measured bytes. values: the model's.

        Up: updates. Down: requests to train and to measure.
        """
        carried = {"up": (self.bytes_updates, len(self.updates)), "down": (self.bytes_down, self.models_down)}
        # An asynchronous round may be made of replies to models that went out before it.
        return {way: round(4 * values * count / taken, 3) for way, (taken, count) in carried.items() if taken and count}


def reader(received: Received, start: Arrays) -> Read:
    """Takes updates that began with this model, as what they change of it."""
    template = Template.of(start)

    def read(device: str, said: Trained, arrays: Arrays) -> Rejection | None:
        delta = incoming(said, arrays, start, template, out=received.deltas.free(template.size))
        if isinstance(delta, Rejection):
            return delta
        received.deltas.took(device)
        return None

    return read


def measure(run: Run, round_: int, devices: Mapping[str, int], flagged: Sequence[str], received: Received) -> dict[str, float]:
    """The new model's metrics, as the devices measure them; a device that cannot is left out.

    In an asynchronous run, whose devices are busy, those that were in the round are asked, and most of them are enough.
    """
    plan, asynchronous = run.plan, run.asynchronous is not None
    asked = {device: node for device, node in devices.items() if device in received.updates} if asynchronous else devices
    request = EvaluateRequest(run=plan.run, round=round_, parameters=plan.parameters)
    question = Question(run.exchange, run.downlink, request, run.arrays, asked, limit_s=EVALUATE_SHARE * plan.deadline_s)
    measurements: list[Measurement] = []
    for arrival in question.arrivals():
        if isinstance(arrival.said, Evaluated):
            measurements.append(Measurement(arrival.device, arrival.said.samples, arrival.said.metrics))
            if asynchronous and 2 * len(measurements) > len(asked):
                break
        else:
            why = arrival.said.reason if isinstance(arrival.said, Failed) else arrival.problem
            log.warning("round %s: %s did not measure the model: %s", round_, arrival.device, why[:MOST_DETAIL])
    received.bytes_down += sum(question.bytes_down.values())
    received.models_down += len(question.bytes_down)
    return rounds.measured(measurements, excluded=flagged)
