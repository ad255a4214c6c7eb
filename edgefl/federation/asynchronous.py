"""Asynchronous rounds: a round ends as soon as enough updates are there, whatever model they began with (FedBuff, Nguyen et al.,
2022, arXiv:2106.06639).

Each device gets the newest model as soon as it has replied, so a slow one holds nobody back. An update is a delta to the model
that its device began with; the older that is, the less it weighs: (1 + s)^-a for s models in between (Xie et al., 2019,
arXiv:1903.03934). One flush of the buffer is one round, so versions, journal and console are as they are otherwise.

A device has at most one update in a round, however quick it is: rules count devices, and must not be outvoted by speed. A second
one waits for the next round, and the device with it. Every turn is charged by the device's own ledger, also a second one on the
same model: it draws new noise from the same records.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation.vectors import Matrix
from edgefl.federation.exchange import Arrival, Pending
from edgefl.federation.messages import Arrays, Trained, TrainRequest, pack, size
from edgefl.federation.received import Received, reader

if TYPE_CHECKING:
    from edgefl.federation.run import Run

WAIT_S = 0.15
"""How long one look for replies waits for them."""
COUNTING = frozenset({"guard", "mean", "norm-clipping", "z-score"})
"""Rules that weigh updates by their numbers of records."""
FINE = 1000
"""Parts of a record in which weights are counted."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A model under way to a device and back. version: how many models this run had made before it."""

    version: int
    start: Arrays
    began: float
    bytes_down: int


@dataclass(slots=True)
class Asynchronous:
    """What is under way between rounds. turns: how many times each device was asked in this run. early: second replies within
    one round. A run that goes on from another goes on counting turns: to a device they are one training.
    """

    run: Run
    pending: Pending
    version: int = 0
    newest: Arrays = field(default_factory=dict)
    flights: dict[str, Flight] = field(default_factory=dict)
    early: dict[str, tuple[Arrival, Flight]] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)

    def fill(self, round_: int, devices: Mapping[str, int], received: Received) -> None:
        """Collect a round's updates: until the quorum is there, or the deadline is over."""
        run, end = self.run, time.monotonic() + self.run.plan.deadline_s
        if run.arrays is not self.newest:
            self.version, self.newest = self.version + 1, run.arrays
        for device, (arrival, flight) in list(self.early.items()):
            del self.early[device]
            self._take(round_, received, arrival, flight)
        while len(received.updates) < run.plan.quorum:
            self._ask(round_, devices, received)
            left_s = end - time.monotonic()
            if left_s <= 0 or not self.flights:
                return
            for arrival in self.pending.some(min(WAIT_S, left_s)):
                flight = self.flights.pop(arrival.device)
                if arrival.device in received.updates:
                    self.early[arrival.device] = arrival, flight
                else:
                    self._take(round_, received, arrival, flight)
            self._give_up(round_, received)

    def answered(self) -> dict[str, int]:
        """Each device's last turn that is over: what is under way, or waits for the next round, is asked anew when the run is
        resumed.
        """
        return {device: turn - (device in self.flights or device in self.early) for device, turn in self.turns.items()}

    def _ask(self, round_: int, devices: Mapping[str, int], received: Received) -> None:
        """Send the newest model to every device that waits for one."""
        run = self.run
        for device, node in devices.items():
            turn = self.turns.get(device, 0) + 1
            # With privacy of its own a device trains no more often than its terms planned for a run.
            spent = run.host.privacy.mode == "dp-sgd" and turn > run.plan.rounds
            busy = device in self.flights or device in self.early
            # Who sent what is no update waits for the next round: asked again at once, it could do so without end.
            if busy or spent or device in received.dropped or device in received.rejected:
                continue
            request = TrainRequest(
                run=run.plan.run,
                round=round_,
                rounds=run.plan.rounds,
                seed=run.plan.seed,
                resumes=run.plan.resume,
                parameters=run.plan.parameters,
                turn=turn,
            )
            content = pack(request, self.newest)
            sent = run.exchange.send("train", content, {device: node}, group=round_, ttl_s=run.plan.deadline_s)
            received.send_s += sent.send_s
            if sent.lost:
                run.drop(round_, received, device, "the SuperLink did not take its message")
                continue
            received.bytes_down += size(content)
            received.models_down += 1
            self.turns[device] = turn
            self.flights[device] = Flight(self.version, self.newest, sent.began, size(content))
            self.pending.join(sent)

    def _take(self, round_: int, received: Received, arrival: Arrival, flight: Flight) -> None:
        """File a reply, unless the model that it began with is too old."""
        run, staleness = self.run, self.version - flight.version
        received.bytes_up += arrival.bytes_up
        if isinstance(arrival.said, Trained) and staleness > run.host.run.max_staleness:
            why = f"its update is {staleness} models old; run.max_staleness is {run.host.run.max_staleness}"
            run.drop(round_, received, arrival.device, why)
            received.dropped.remove(arrival.device)  # it goes on with the newest model at once
            return
        if not run.memory.reputation.admitted([arrival.device]):
            return  # it was set aside while it trained
        if arrival.device in received.dropped:
            received.dropped.remove(arrival.device)  # it was thought to be offline when the round began
        received.weights[arrival.device] = weight(staleness, run.host.run.staleness_exponent)
        received.down[arrival.device] = flight.bytes_down
        run.judge(round_, received, arrival, reader(received, flight.start), staleness)

    def _give_up(self, round_: int, received: Received) -> None:
        """Drop whom nothing was heard from for as long as a round may take; its message is not delivered any more either."""
        limit_s = self.run.plan.deadline_s
        for device, flight in list(self.flights.items()):
            if time.monotonic() - flight.began > limit_s:
                del self.flights[device]
                self.pending.forget(device)
                self.run.drop(round_, received, device, f"no reply within {limit_s:g} s")


def weight(staleness: int, exponent: float) -> float:
    """What an update counts that began `staleness` models ago: 1 for a fresh one, then less (Xie et al., 2019)."""
    return float((1 + staleness) ** -exponent)


def weighed(rule: str, deltas: Matrix, samples: NDArray[np.int64], weights: Sequence[float]) -> tuple[Matrix, NDArray[np.int64]]:
    """The updates and counts that a rule gets for these weights: (n, p) float32 and (n,).

    A rule that weighs by records gets fewer of them, and judges deltas as they are: a short delta would look odd for no fault of
    its device. The others read no counts: for them the delta itself is shortened, in place.
    """
    if all(value == 1.0 for value in weights):
        return deltas, samples
    if rule in COUNTING:
        return deltas, np.maximum(1, np.round(samples * np.asarray(weights) * FINE)).astype(np.int64)
    deltas *= np.asarray(weights, np.float32)[:, None]
    return deltas, samples
