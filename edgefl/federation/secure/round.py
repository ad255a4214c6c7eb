"""A round of masked sums on the coordinator: who is asked what, what comes of it, and what the journal is told.

A device that drops out costs its own update: before it shared its secrets the others go on without it, afterwards they remove its
masks. Where fewer stay than a sum needs, the sum is lost, and said to be. With groups, the rule judges the groups' means.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from flwr.app import RecordDict

from edgefl.events import schema as events
from edgefl.federation.aggregation.limits import attackers, needed
from edgefl.federation.aggregation.reputation import Reputation
from edgefl.federation.aggregation.rules import build
from edgefl.federation.aggregation.scores import Aggregate
from edgefl.federation.aggregation.validate import Rejection
from edgefl.federation.aggregation.vectors import Template, Vector
from edgefl.federation.exchange import Arrival
from edgefl.federation.messages import Arrays, Failed, Keys, KeysRequest, Opened, Said, Shares, Trained, Unmasked, pack, size
from edgefl.federation.rounds import RunInvalid
from edgefl.federation.secure import sums
from edgefl.federation.secure.selection import Selection
from edgefl.federation.secure.signing import Round, verify
from edgefl.federation.secure.sums import Malformed, Sum
from edgefl.pki.anchors import Anchors
from edgefl.pki.errors import CertificateRefused, PkiError
from edgefl.site.model import Secure

if TYPE_CHECKING:
    from edgefl.federation.received import Received
    from edgefl.federation.run import Run

ANSWER_S = 45.0
"""How long a question is awaited that needs no training, at most; a device that is away is known to be after so long."""
SLACK = 1.02
"""A mean of updates is no longer than the longest that an update may be, but for rounding."""

SCORED = ("score", "threshold", "verdict", "weight", "norm", "cosine", "reason")
"""What the journal keeps of a group's score."""
AFTER = (Unmasked, Opened)
"""Answers to questions that are asked when the device's update is in the sum: it is not missed without them."""
NO_ANSWER = "it is no answer to what was asked"
MOST_DETAIL = 500

log = logging.getLogger("edgefl")


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of one run. devices: those that are asked, with their nodes."""

    run: Run
    round: int
    received: Received
    devices: Mapping[str, int]

    def say(self, body: events.Body) -> None:
        """Into the journal."""
        self.run.say(body, round_=self.round)

    def drop(self, device: str, reason: str) -> None:
        """The device gives no update."""
        self.run.drop(self.round, self.received, device, reason)

    def reject(self, device: str, why: str) -> None:
        """What the device sent is no answer."""
        self.run.reject(self.round, self.received, device, Rejection("undecodable", why))


class SecureRounds:
    """A run's masked rounds. identity: the directory with the site's authorities and revocation lists.

    last: the mean of the one before. barred: devices that broke a sum, and how.
    """

    kind: ClassVar[type[Sum]] = Sum
    growth: ClassVar[int] = 1
    """How many times larger than in float32 an update may be, beyond what every message may."""

    def __init__(self, secure: Secure, identity: Path) -> None:
        self.secure = secure
        self.identity = identity
        self.last: Vector | None = None
        self.barred: dict[str, str] = {}
        self._sums: list[Sum] = []
        self._generator = np.random.default_rng()

    def check(self, run: Run) -> None:
        """Raise RunInvalid where the run cannot be one of such rounds: its options may ask for what `edgefl check` refuses."""
        mode = self.secure.mode
        if run.host.run.mode == "asynchronous":
            raise RunInvalid(f"{mode} sums need updates that began with one model", hint="run.mode: synchronous")
        if run.host.run.selection.strategy != "all":
            raise RunInvalid(
                f"{mode} sums are of all devices, and a selection leaves some out", hint="run.selection.strategy: all"
            )
        if run.plan.rule != "mean" and not self.secure.group_size:
            raise RunInvalid(
                f"{run.plan.rule} judges single updates, and {mode} sums hide them", hint="the rule mean, or secure.group_size"
            )
        malicious, groups = attackers(run.plan.byzantine, len(run.plan.devices)), self.secure.sums(len(run.plan.devices))
        if self.secure.group_size and groups < (least := needed(run.plan.rule, malicious)):
            raise RunInvalid(
                f"{len(run.plan.devices)} devices are {groups} groups, and {run.plan.rule} against {malicious} malicious devices "
                f"needs {least}",
                hint="a smaller secure.group_size, more devices, a lower byzantine, or the rule mean",
            )
        try:
            Anchors.load(self.identity, datetime.now(UTC))
        except PkiError as error:
            raise RunInvalid(f"devices' keys cannot be checked: {error.what}", hint=error.hint) from error

    def train(self, run: Run, round_: int, devices: Mapping[str, int]) -> Received:
        """Keys, shares, and the masked updates of one round."""
        received, began = run.begin(round_, devices), time.monotonic()
        for device in [device for device in devices if device in self.barred]:
            run.drop(round_, received, device, f"left out: {self.barred[device]}")
        asked = {device: node for device, node in devices.items() if device not in self.barred}
        turn = Turn(run, round_, received, asked)
        self._sums = self._begin(turn, self._keys(turn))
        self._shares(turn)
        received.send_s = time.monotonic() - began
        whose = {member: made for made in self._sums for member in made.among}

        def read(device: str, said: Trained, arrays: Arrays) -> Rejection | None:
            try:
                whose[device].take(device, said.encoding, arrays)
            except Malformed as error:
                return Rejection("undecodable", str(error))
            return None

        if whose:
            run.collect(round_, received, {d: asked[d] for d in whose}, read, [made.among for made in self._sums])
        self._require(turn, "sent their updates", lambda made: made.survivors)
        self._reveal(turn)
        return received

    def aggregate(self, run: Run, round_: int, received: Received) -> Aggregate | None:
        """The mean of the sums whose masks came off, by the rule where there are groups; None when the round is skipped."""
        turn, means = Turn(run, round_, received, {}), list[tuple[Sum, Vector]]()
        for made in self._sums:
            mean = self._mean(made)
            if isinstance(mean, sums.SumLost):
                self._lose(turn, made, mean)
            else:
                means.append((made, mean))
                turn.say(events.SumUnmasked(members=list(made.members), survivors=made.survivors, needed=made.threshold))
        self._sums = []
        participants = list(received.updates)
        if len(participants) < run.plan.quorum:
            run.skip(round_, f"{len(participants)} updates are in sums, {run.plan.quorum} are needed", participants)
            return None
        if not self.secure.group_size:
            self.last = means[0][1]
            return Aggregate(self.last, [], run.memory.reputation)
        malicious = attackers(run.plan.byzantine, len(run.plan.devices))
        if len(means) < (least := needed(run.plan.rule, malicious)):
            run.skip(round_, f"{len(means)} groups gave a sum, and {run.plan.rule} needs {least}", participants)
            return None
        return self._judged(turn, means, malicious)

    def _judged(self, turn: Turn, means: list[tuple[Sum, Vector]], malicious: int) -> Aggregate:
        """The rule over the groups' means: one malicious device spoils one group. Groups have no history: they are drawn anew."""
        run = turn.run
        rule = build(run.plan.rule, malicious / len(means), run.plan.mixing)
        names = [str(place) for place in range(len(means))]
        counts = np.array([len(made.survivors) for made, _ in means], np.int64)
        found = rule.aggregate(np.stack([mean for _, mean in means]), names, counts, Reputation())
        for (made, _), score in zip(means, found.scores, strict=True):
            said = {name: getattr(score, name) for name in SCORED}
            turn.say(events.SumScored(members=made.survivors, rule=rule.name, **said))
        self.last = found.delta
        return Aggregate(found.delta, [], run.memory.reputation)

    def _keys(self, turn: Turn) -> dict[str, Keys]:
        """Each device's keys. One that did not sign its own would have every other refuse the sum: it is left out before."""
        keys: dict[str, Keys] = {}
        anchors, plan = Anchors.load(self.identity, datetime.now(UTC)), turn.run.plan
        round_ = Round(turn.run.host.site, plan.run, turn.round)
        content = pack(KeysRequest(run=plan.run, round=turn.round))
        for arrival in self._ask(turn, dict.fromkeys(turn.devices, content), Keys):
            try:
                said = sums.checked(arrival.said, keys)
                verify(anchors, round_, arrival.device, said)
                keys[arrival.device] = said
            except (Malformed, CertificateRefused) as error:
                turn.reject(arrival.device, f"its keys cannot be relied on: {error}")
        return keys

    def _begin(self, turn: Turn, keys: Mapping[str, Keys]) -> list[Sum]:
        """The round's sums, over the devices whose keys came."""
        groups = grouped([device for device in turn.devices if device in keys], self.secure, self._generator)
        most = max(map(len, groups), default=1)
        size_ = Template.of(turn.run.arrays).size
        selection = Selection.choose(self.secure, self.last, size_, most, self._generator)
        return [
            self.kind(
                run=turn.run.plan.run,
                round=turn.round,
                members=tuple(group),
                keys={member: keys[member] for member in group},
                threshold=self.secure.needed(len(group)),
                selection=selection,
                size=size_,
            )
            for group in groups
        ]

    def _shares(self, turn: Turn) -> None:
        whose = {member: made for made in self._sums for member in made.members}
        contents: dict[str, RecordDict] = {}
        for made in self._sums:
            contents |= dict.fromkeys(made.members, pack(*made.shares_request()))
        for arrival in self._ask(turn, contents, Shares):
            try:
                whose[arrival.device].shared(arrival.device, arrival.said, arrival.arrays)
            except Malformed as error:
                turn.reject(arrival.device, str(error))
        self._require(turn, "shared their secrets", lambda made: made.among)

    def _reveal(self, turn: Turn) -> None:
        whose = {member: made for made in self._sums for member in made.survivors}
        contents = {member: pack(*made.unmask_request(member)) for member, made in whose.items()}
        for arrival in self._ask(turn, contents, Unmasked):
            try:
                whose[arrival.device].reveal(arrival.device, arrival.arrays)
            except Malformed as error:
                log.warning("round %s: %s's shares cannot be read: %s", turn.round, arrival.device, error)

    def _ask(self, turn: Turn, contents: Mapping[str, RecordDict], expected: type[Said]) -> Iterator[Arrival]:
        """The replies of the expected kind. A device without one drops out, unless its update is in the sum already."""
        limit_s = min(ANSWER_S, turn.run.plan.deadline_s)
        devices = {device: turn.devices[device] for device in contents}
        turn.received.bytes_down += sum(map(size, contents.values()))
        pending = turn.run.exchange.send_each("query", contents, devices, group=turn.round, ttl_s=limit_s)
        missing = dict.fromkeys(pending.lost, "the SuperLink did not take its message")
        for arrival in pending.arrivals(limit_s):
            turn.received.bytes_up += arrival.bytes_up
            if isinstance(arrival.said, expected):
                yield arrival
            else:
                said = arrival.said
                missing[arrival.device] = said.reason if isinstance(said, Failed) else arrival.problem or NO_ANSWER
        missing |= dict.fromkeys(pending.silent, f"no reply within {limit_s:g} s")
        for device, reason in missing.items():
            if expected in AFTER:
                log.warning("round %s: %s did not help with the sum: %s", turn.round, device, reason[:MOST_DETAIL])
            else:
                turn.drop(device, reason)

    def _mean(self, made: Sum) -> Vector | sums.SumLost:
        try:
            mean = made.mean(self.secure)
        except sums.SumLost as lost:
            return lost
        if (norm := float(np.linalg.norm(mean))) > SLACK * self.secure.clip:
            return sums.SumLost(
                f"its mean is {norm:.3g} long, and no update may be longer than {self.secure.clip:g}: a device sent what is none"
            )
        return mean

    def _require(self, turn: Turn, what: str, of: Callable[[Sum], Sequence[str]]) -> None:
        """Give up the sums of which too few devices are left."""
        for made in list(self._sums):
            try:
                made.require(of(made), what)
            except sums.SumLost as lost:
                self._sums.remove(made)
                self._lose(turn, made, lost)

    def _lose(self, turn: Turn, made: Sum, lost: sums.SumLost) -> None:
        if lost.culprit:
            self.barred[lost.culprit] = str(lost)
        turn.say(events.SumLost(members=list(made.members), reason=str(lost), culprit=lost.culprit))
        received = turn.received
        for member in made.members:
            if received.updates.pop(member, None) is not None or member not in {*received.dropped, *received.rejected}:
                turn.drop(member, f"its sum was lost: {lost}")


def grouped(devices: list[str], secure: Secure, generator: np.random.Generator) -> list[list[str]]:
    """The devices of each sum: all of them, or groups of `group_size` drawn at random, the first ones a device larger where some
    are left over.
    """
    if not devices:
        return []
    if not secure.group_size:
        return [devices]
    drawn = [devices[place] for place in generator.permutation(len(devices))]
    return [drawn[start :: secure.sums(len(devices))] for start in range(secure.sums(len(devices)))]
