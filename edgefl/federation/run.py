"""One run on the coordinator, round by round.

What is planned, accepted and measured is decided in `rounds.py` and `aggregation/`; `exchange.py` talks to Flower; this puts
them in order and writes what happens into the journal. A device can cost a round its own update and nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from edgefl.events import schema as events
from edgefl.events.journal import Journal
from edgefl.federation import rounds
from edgefl.federation.aggregation import policy
from edgefl.federation.aggregation.rules import Rule, build
from edgefl.federation.aggregation.scores import Aggregate
from edgefl.federation.aggregation.validate import Rejection, check_claims
from edgefl.federation.aggregation.vectors import Arrays, Template
from edgefl.federation.aside import LEFT_OUT, Aside
from edgefl.federation.asynchronous import Asynchronous, weighed
from edgefl.federation.checkpoint import Models
from edgefl.federation.client import task_source
from edgefl.federation.compression.downlink import Downlink
from edgefl.federation.exchange import Arrival, Exchange
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.federation.membership import members, pardon, renew
from edgefl.federation.messages import Failed, Refused, Trained, TrainRequest
from edgefl.federation.privacy.release import ClientPrivacy
from edgefl.federation.privacy.witness import Witness
from edgefl.federation.question import Question
from edgefl.federation.received import MOST_DETAIL, Read, Received, Stack, measure, reader
from edgefl.federation.rounds import Plan, QuorumMissing, Timing
from edgefl.federation.saving import Memory, Saving, begin
from edgefl.federation.secure.modes import secure_rounds
from edgefl.federation.secure.round import SecureRounds
from edgefl.federation.selection import Choice, History, choose
from edgefl.federation.task import Task, load_task

GATHER_S = 90.0
"""How long a run waits for a quorum of devices before its first round, at least."""
GATHER_POLL_S = 1.0
"""How often it looks who is there meanwhile."""


@dataclass(slots=True)
class Run:
    """A run under way. arrays: the global model. memory: what else one round leaves to the next. asynchronous: what is under way
    between rounds, in that mode. members: asks who belongs to the site by now; None for a run that nobody joins or leaves.
    """

    plan: Plan
    host: HostConfig
    task: Task
    exchange: Exchange
    journal: Journal
    saving: Saving
    rule: Rule
    arrays: Arrays
    memory: Memory
    witness: Witness
    downlink: Downlink
    secure: SecureRounds | None = None
    clients: ClientPrivacy | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    history: History = field(default_factory=History)
    choice: Choice = field(default_factory=Choice)
    asynchronous: Asynchronous | None = None
    members: Callable[[], Sequence[str]] | None = None
    aside: Aside = field(init=False)

    def __post_init__(self) -> None:
        self.aside = Aside(self.journal)

    @classmethod
    def open(
        cls, host: HostConfig, places: Places, exchange: Exchange, journal: Journal, *, overrides: Mapping[str, Any], run: str
    ) -> Run:
        """Load the task, the first model (or the one to go on from) and what is known of the devices.

        overrides: Flower's run configuration (see rounds.plan).
        """
        task = load_task(*task_source(host))
        found = begin(host, Models(places.models), journal, task, overrides=overrides, run=run)
        opened = cls(
            plan=found.plan,
            host=host,
            task=task,
            exchange=exchange,
            journal=journal,
            saving=found.saving,
            rule=build(found.plan.rule, found.plan.byzantine, found.plan.mixing),
            arrays=found.arrays,
            memory=found.memory,
            witness=Witness.of(journal.records(kind="privacy_spent")),
            downlink=Downlink(host.compression, left=found.memory.left),
            secure=secure_rounds(host.secure, places.identity),
            clients=ClientPrivacy.open(
                host, found.plan, places.models, found.memory.released, journal.records(kind="model_privacy_spent")
            ),
            history=History.told_by(journal),
            members=partial(members, places),
        )
        if host.run.mode == "asynchronous":
            opened.asynchronous = Asynchronous(opened, exchange.nothing(), turns=dict(found.memory.turns))
        return opened

    def work(self) -> None:
        """Every round of the plan. Raises QuorumMissing when too few devices come, or stay."""
        plan, parent = self.plan, self.saving.parent
        if self.secure:
            self.secure.check(self)
        self.say(
            events.RunStarted(
                site=self.host.site,
                site_hash=self.host.site_hash,
                task=self.task.ref,
                rounds=plan.rounds,
                devices=list(plan.devices),
                quorum=plan.quorum,
                rule=plan.rule,
                privacy=self.host.privacy.model_dump(mode="json"),
                first_round=plan.first_round,
                secure=self.host.secure.model_dump(mode="json") if self.secure else {},
                policy=plan.policy.model_dump(mode="json"),
                resumes=plan.resume,
                start=parent.name if parent else "",
                start_sha256=parent.sha256 if parent else "",
            )
        )
        pardon(self, plan.pardoned)
        if not plan.resume:
            self.saving.commit(self.saving.stage(0, self.arrays, self.memory), self.memory)
        there = self._gather(max(GATHER_S, plan.deadline_s))
        if len(there) < plan.quorum:
            raise QuorumMissing(
                f"{len(there)} of {len(plan.devices)} devices came, and the run needs {plan.quorum}", hint="edgefl devices"
            )
        skipped = 0
        for round_ in range(plan.first_round, plan.rounds + 1):
            skipped = 0 if self.round(round_) else skipped + 1
            if skipped >= rounds.MAX_SKIPPED:
                raise QuorumMissing(f"{skipped} rounds in a row had fewer than {plan.quorum} updates", hint="edgefl devices")
        last = self.saving.parent
        if last is None or last.run != plan.run or last.round == 0:
            raise QuorumMissing(f"no round had {plan.quorum} updates: there is no new model", hint="edgefl devices")
        self.exchange.close()
        self.say(
            events.RunFinished(
                status="completed",
                accuracy=self.metrics.get("accuracy"),
                loss=self.metrics.get("loss"),
                model=str(self.saving.models.path(last.run, last.round)),
                model_sha256=last.sha256,
            )
        )

    def round(self, round_: int) -> bool:
        """One round; whether there is a new global model. Every outcome stands in the journal."""
        renew(self)
        there = self._gather(self.plan.deadline_s)
        if len(there) < self.plan.quorum:
            return self.skip(round_, f"{len(there)} devices are online, {self.plan.quorum} are needed", [])
        trust = {device: self.memory.reputation.of(device).trust for device in there}
        self.choice = choose(self.host.run.selection, list(there), self.history, trust, plan=self.plan, round_=round_)
        devices = {device: there[device] for device in self.choice.devices}
        received = self.secure.train(self, round_, devices) if self.secure else self._train(round_, devices)
        began = time.monotonic()
        aggregate = self.secure.aggregate(self, round_, received) if self.secure else self._aggregate(round_, received)
        if aggregate is None:
            return False
        if self.secure:  # sums judge nobody, but whoever was set aside before comes back in time
            aggregate = self._set_aside(aggregate, [], received)
        scored = time.monotonic()
        move, optimiser = self.memory.optimiser.step(aggregate.delta)
        if not np.isfinite(move).all():
            return self.skip(
                round_, f"the optimiser {optimiser.settings.name} gave a step that is not finite", list(received.updates)
            )
        arrays = self.downlink.moved(self.arrays, move)
        memory = replace(
            self.memory,
            reputation=aggregate.reputation,
            optimiser=optimiser,
            left=self.downlink.left,
            turns=self.asynchronous.answered() if self.asynchronous else {},
        )
        parent, staged = self.saving.parent, self.saving.stage(round_, arrays, memory)
        self.arrays, self.memory = arrays, memory
        aggregated = time.monotonic()
        flagged = [score.device for score in aggregate.scores if score.flagged]
        self.metrics = measure(self, round_, devices, flagged, received)
        finished = events.RoundFinished(
            accuracy=self.metrics.get("accuracy"),
            loss=self.metrics.get("loss"),
            metrics=self.metrics,
            participants=list(received.updates),
            dropped=received.dropped,
            rejected=received.rejected,
            flagged=flagged,
            bytes_up=received.bytes_up,
            bytes_down=received.bytes_down,
            ratio=received.ratio(Template.of(self.arrays).size),
            seconds=rounds.stages(
                received.timings,
                send=received.send_s,
                score=scored - began,
                aggregate=aggregated - scored,
                evaluate=time.monotonic() - aggregated,
            ),
            model=str(staged.path),
            model_sha256=staged.sha256,
            parent=parent.name if parent else "",
            parent_sha256=parent.sha256 if parent else "",
        )
        self.saving.commit(staged, memory, [*received.said, finished])
        return True

    def _gather(self, limit_s: float) -> dict[str, int]:
        """The planned devices that are online, with their node ids; waits at most `limit_s` for a quorum."""
        end = time.monotonic() + limit_s
        while True:
            online = self.exchange.online()
            pardon(self, self.aside.returned())
            there = {device: online[device] for device in self._admitted() if device in online}
            if len(there) >= self.plan.quorum or time.monotonic() >= end:
                return there
            time.sleep(GATHER_POLL_S)

    def _admitted(self) -> list[str]:
        """The planned devices that neither the policy nor the operator keeps out."""
        return self.memory.reputation.admitted(self.aside.without(self.plan.devices))

    def begin(self, round_: int, devices: Mapping[str, int]) -> Received:
        """Say that the round began, and who is not there."""
        started = events.RoundStarted(
            devices=list(devices),
            deadline_s=self.plan.deadline_s,
            secure=self.host.secure.mode if self.secure else "",
            selection=self.host.run.selection.strategy if self.asynchronous is None else "asynchronous",
            why=dict(self.choice.why),
        )
        self.say(started, round_=round_)
        received = Received(deltas=Stack(len(self.plan.devices if self.asynchronous else devices)))
        for device in self._admitted():
            if device not in devices and device not in self.choice.passed_over:
                self.drop(round_, received, device, "offline")
        return received

    def _train(self, round_: int, devices: Mapping[str, int]) -> Received:
        received = self.begin(round_, devices)
        if self.asynchronous is not None:
            self.asynchronous.fill(round_, devices, received)
        else:
            self.collect(round_, received, devices, reader(received, self.arrays))
        return received

    def collect(
        self, round_: int, received: Received, devices: Mapping[str, int], read: Read, sums: Sequence[list[str]] = ()
    ) -> None:
        """Have these devices train, and file their replies. read: takes an update whose claims can be true, or says why not."""
        plan = self.plan
        request = TrainRequest(
            run=plan.run,
            round=round_,
            rounds=plan.rounds,
            seed=plan.seed,
            resumes=plan.resume,
            parameters=plan.parameters,
            sums=list(sums),
        )
        growth = self.secure.growth if self.secure else 1
        question = Question(self.exchange, self.downlink, request, self.arrays, devices, limit_s=plan.deadline_s, growth=growth)
        received.send_s += question.send_s
        received.down = question.bytes_down
        for arrival in question.arrivals():
            received.bytes_up += arrival.bytes_up
            self.judge(round_, received, arrival, read)
        for device in question.lost:
            self.drop(round_, received, device, "the SuperLink did not take its message")
        for device in question.silent:
            late = "its reply had not arrived wholly" if device in question.arriving else "no reply"
            self.drop(round_, received, device, f"{late} within {plan.deadline_s:g} s")
        received.bytes_down += sum(question.bytes_down.values())
        received.models_down += len(question.bytes_down)

    def judge(self, round_: int, received: Received, arrival: Arrival, read: Read, staleness: int = 0) -> None:
        """File one reply: an update, a rejection, a refusal or a failure. Nothing that a device sends raises."""
        device, said = arrival.device, arrival.said
        if isinstance(said, Trained):
            problem = check_claims(said.samples, said.metrics, self.task.metrics, claimed_before=self.memory.claimed.get(device))
            problem = problem or read(device, said, arrival.arrays)
            if problem is not None:
                self.reject(round_, received, device, problem)
            else:
                self._accept(round_, received, arrival, said, staleness)
        elif isinstance(said, Refused):
            self.say(
                events.PrivacyRefused(
                    device=device, spent=said.spent, limit=said.limit, cost=said.cost, reason=said.reason[:MOST_DETAIL]
                ),
                round_=round_,
            )
            received.dropped.append(device)
        elif isinstance(said, Failed):
            self.drop(round_, received, device, said.reason)
        elif arrival.problem and not arrival.undecodable:
            self.drop(round_, received, device, arrival.problem)
        else:
            self.reject(
                round_, received, device, Rejection("undecodable", arrival.problem or "it is no answer to what was asked")
            )

    def _accept(self, round_: int, received: Received, arrival: Arrival, said: Trained, staleness: int) -> None:
        device = arrival.device
        timing = Timing(device, arrival.after_s, said.start_s, said.train_s)
        received.updates[device] = said
        received.bytes_updates += arrival.bytes_up
        received.timings.append(timing)
        self.memory.claimed.setdefault(device, said.samples)
        self.say(
            events.UpdateReceived(
                device=device,
                samples=said.samples,
                bytes_up=arrival.bytes_up,
                bytes_down=received.down.get(device, 0),
                train_s=said.train_s,
                transfer_s=timing.transfer_s,
                start_s=said.start_s,
                loss=said.metrics.get("loss"),
                accuracy=said.metrics.get("accuracy"),
                cpu_s=said.cpu_s,
                staleness=staleness,
            ),
            round_=round_,
        )
        if said.privacy is not None:
            spent = self.memory.privacy[device] = events.PrivacySpent(device=device, **said.privacy.model_dump())
            self.say(spent, round_=round_)
            if (flag := self.witness.look(device, said.privacy, again=bool(self.plan.resume))) is not None:
                self.say(flag, round_=round_)

    def _aggregate(self, round_: int, received: Received) -> Aggregate | None:
        """The round's robust step, with every update's score in the journal; None when the round is skipped."""
        for device in self.aside.devices.intersection(received.updates):
            del received.updates[device]
            received.deltas.leave_out(device)
            self.drop(round_, received, device, LEFT_OUT)
        devices = [device for device in self.plan.devices if device in received.updates]
        if len(devices) < self.plan.quorum:
            self.skip(round_, f"{len(devices)} updates came, {self.plan.quorum} are needed", devices)
            return None
        deltas = received.deltas.stacked(devices)
        samples = np.array([received.updates[device].samples for device in devices], dtype=np.int64)
        weights = [received.weights.get(device, 1.0) for device in devices]
        deltas, samples = weighed(self.rule.name, deltas, samples, weights)
        known = self.memory.reputation.known(self.plan.devices, len(devices), len(received.rejected))
        aggregate = self.rule.aggregate(deltas, devices, samples, self.memory.reputation, known)
        if self.clients is not None:  # its scores are of what came; what the model moves by is this
            step, released = self.clients.step(deltas, weights, round_)
            aggregate, self.memory = replace(aggregate, delta=step), replace(self.memory, released=released)
            self.say(released, round_=round_)
        if not np.isfinite(aggregate.delta).all():
            self.skip(round_, f"the rule {self.rule.name} gave a model that is not finite", devices)
            return None
        received.said += [body for score in aggregate.scores for body in score.events(self.rule.name)]
        seen = replace(aggregate, reputation=aggregate.reputation.malformed(received.rejected))
        return self._set_aside(seen, [*devices, *received.rejected], received)

    def _set_aside(self, aggregate: Aggregate, took_part: list[str], received: Received) -> Aggregate:
        """Who was flagged again and again, or sent what was no update; whose quarantine is over."""
        reputation, judged = policy.judge(aggregate.reputation, took_part, self.plan.devices, self.plan.policy, self.plan.spare)
        received.said += judged
        return replace(aggregate, reputation=reputation)

    def skip(self, round_: int, reason: str, participants: list[str]) -> bool:
        """The round gives no model; returns False."""
        self.say(events.RoundSkipped(reason=reason, participants=participants), round_=round_)
        return False

    def drop(self, round_: int, received: Received, device: str, reason: str) -> None:
        """A device gave no update."""
        received.dropped.append(device)
        self.say(events.DeviceDropped(device=device, reason=reason[:MOST_DETAIL]), round_=round_)

    def reject(self, round_: int, received: Received, device: str, problem: Rejection) -> None:
        """What a device sent is no update."""
        received.rejected.append(device)
        self.say(events.UpdateRejected(device=device, reason=problem.reason, detail=problem.detail[:MOST_DETAIL]), round_=round_)

    def say(self, body: events.Body, *, round_: int = 0) -> None:
        """Into the journal."""
        self.journal.append(body, run=self.plan.run, round=round_)
        self.history = self.history.after(body)
