"""The decisions of a run, as functions of values: what is planned, what counts as an update, how measurements become one.

No Flower, no clock, no file: `server.py` does what is decided here.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgefl.errors import EdgeflError, ExitCode
from edgefl.federation.hostconfig import HostConfig
from edgefl.site.model import Policy
from edgefl.site.robustness import attackers, outvoted, unfit

SAMPLES_CAP = 3.0
"""A device's measurement weighs at most as much as this many median devices: what it says of its records is not verified."""
OUTLIER_MADS = 6.0
"""A measurement further from the median than this many scaled median deviations says more of its sender than of the model."""
MAX_SKIPPED = 3
"""After this many rounds in a row without a quorum the run ends as failed."""


class RunInvalid(EdgeflError):
    """What the run was asked to do makes no sense."""

    exit_code = ExitCode.USAGE


class QuorumMissing(EdgeflError):
    """Fewer devices are there than the run needs, and waiting did not help."""

    exit_code = ExitCode.QUORUM


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: host.json's values, with what `edgefl run` overrides.

    quorum: how many updates make a round. pardoned: devices that the operator takes back. resume: the training that this run goes
    on with, by its first run. start: the version whose model the run begins with. parameters: over the site's, for the task.
    is_open: whoever joins the site joins the run, for the operator did not choose its devices. has_own_quorum: the operator chose
    it. The device's privacy terms are not here: they are the device's own.
    """

    run: str
    devices: tuple[str, ...]
    rounds: int
    first_round: int
    quorum: int
    deadline_s: float
    seed: int
    rule: str
    byzantine: float
    mixing: str = "none"
    policy: Policy = field(default_factory=Policy)
    pardoned: tuple[str, ...] = ()
    parameters: dict[str, bool | int | float | str] = field(default_factory=dict)
    resume: str = ""
    start: str = ""
    is_open: bool = True
    has_own_quorum: bool = False

    @property
    def training(self) -> str:
        """The first of the runs that go on from one another: what the devices know this run by."""
        return self.resume or self.run

    @property
    def spare(self) -> int:
        """How many devices may be in quarantine at once: no more than may be malicious, and a quorum must be left."""
        return min(attackers(self.byzantine, len(self.devices)), len(self.devices) - self.quorum)


def plan(host: HostConfig, overrides: Mapping[str, Any], run: str, *, before: Plan | None = None) -> Plan:
    """What this run does. overrides: Flower's run configuration; 0 and `{}` mean what host.json says.

    `options` is JSON: {"parameters": {…}, "rule": …, "byzantine": …, "resume": run id, "start": version, "devices": [names],
    "pardon": [names]}.
    before: the plan of the run that this one goes on from: what is not overridden stays as it was. Raises RunInvalid.
    """
    try:
        options = json.loads(str(overrides.get("options") or "{}"))
    except json.JSONDecodeError as error:
        raise RunInvalid(f"the run's options are not JSON: {error}") from error
    if not isinstance(options, dict):
        raise RunInvalid("the run's options are no JSON object")
    known = {"parameters", "rule", "byzantine", "resume", "start", "devices", "pardon"}
    if unknown := sorted(options.keys() - known):
        raise RunInvalid(f"the run's option {unknown[0]!r} is unknown", hint=f"known are {', '.join(sorted(known))}")
    usual = before or _usual(host)
    devices = tuple(options.get("devices") or [device for device in usual.devices if device in host.devices])
    if strangers := sorted(set(devices) - set(host.devices)):
        raise RunInvalid(f"{strangers[0]} is no device of the site {host.site}", hint="edgefl devices")
    pardoned = tuple(options.get("pardon") or ())
    if strangers := sorted(set(pardoned) - set(host.devices)):
        raise RunInvalid(f"{strangers[0]} is no device of the site {host.site}", hint="edgefl devices")
    if options.get("resume") and options.get("start"):
        raise RunInvalid("a run goes on from another, or starts from a version: not both", hint="leave out resume, or start")
    if not devices:
        raise RunInvalid(f"the site {host.site} has no devices", hint="edgefl check")
    quorum = int(overrides.get("quorum") or 0) or (usual.quorum if before else host.run.needed(len(devices)))
    if quorum > len(devices):
        raise RunInvalid(f"the run needs {quorum} devices, and only {len(devices)} may take part", hint="lower run.quorum")
    found = Plan(
        run=run,
        devices=devices,
        rounds=int(overrides.get("rounds") or 0) or usual.rounds,
        first_round=int(overrides.get("first-round") or 0) or 1,
        quorum=quorum,
        deadline_s=float(overrides.get("deadline-s") or 0) or usual.deadline_s,
        seed=int(overrides.get("seed") or 0) or usual.seed,
        rule=str(options.get("rule") or usual.rule),
        byzantine=float(options.get("byzantine", usual.byzantine)),
        mixing=usual.mixing,
        policy=usual.policy,
        pardoned=pardoned,
        parameters={**usual.parameters, **dict(options.get("parameters") or {})},
        resume=str(options.get("resume") or ""),
        start=str(options.get("start") or ""),
        is_open=usual.is_open and not options.get("devices"),
        has_own_quorum=usual.has_own_quorum or bool(overrides.get("quorum")),
    )
    _require_defence(host, found)
    return found


def renewed(plan: Plan, host: HostConfig, members: Sequence[str]) -> Plan:
    """The plan once these are the site's devices: who joined takes part from the next round on, who left no more.

    A run whose devices the operator chose takes in nobody, and one whose quorum was chosen keeps it. Raises RunInvalid where
    those that are left cannot do the run.
    """
    devices = tuple(device for device in members if plan.is_open or device in plan.devices)
    if devices == plan.devices:
        return plan
    quorum = plan.quorum if plan.has_own_quorum else host.run.needed(len(devices))
    if quorum > len(devices):
        raise RunInvalid(f"the run needs {quorum} devices, and the site has {len(devices)} for it", hint="lower run.quorum")
    found = replace(plan, devices=devices, quorum=quorum)
    _require_defence(host, found)
    return found


def _require_defence(host: HostConfig, plan: Plan) -> None:
    """What `edgefl check` asks of the site's rule, asked of the run's own. How many sums there are, secure/round.py knows."""
    if not 0 <= plan.byzantine < 0.5:
        raise RunInvalid(f"no rule withstands a share of {plan.byzantine:g} malicious devices", hint="0 or more, below 0.5")
    found = unfit(plan.rule, plan.byzantine, plan.mixing)
    if not found and host.secure.mode == "none":
        asked = host.run.selection.asked(len(plan.devices), plan.quorum)
        found = outvoted(plan.rule, plan.byzantine, asked, plan.quorum)
    if found:
        raise RunInvalid(found[1], hint=found[2])


def _usual(host: HostConfig) -> Plan:
    return Plan(
        run="",
        devices=tuple(host.devices),
        rounds=host.run.rounds,
        first_round=1,
        quorum=0,
        deadline_s=host.run.deadline_s,
        seed=host.run.seed,
        rule=host.aggregation.rule,
        byzantine=host.aggregation.byzantine,
        mixing=host.aggregation.mixing,
        policy=host.aggregation.policy,
    )


def recorded(said: Mapping[str, Any]) -> Plan:
    """The plan of a run as its record has it; what this version's plans no longer have is left out. Raises RunInvalid."""
    try:
        return TypeAdapter(Plan).validate_python(said)
    except ValidationError as error:
        raise RunInvalid(f"the plan of the run that this one goes on from cannot be read: {error.errors()[0]['msg']}") from error


def resumed(plan: Plan, last_round: int) -> Plan:
    """The plan of a run that goes on after `last_round`. Raises RunInvalid when nothing is left to do."""
    if last_round >= plan.rounds:
        raise RunInvalid(
            f"run {plan.resume} has done round {last_round} of {plan.rounds}: nothing is left",
            hint=f"edgefl run --resume {plan.resume} --rounds {last_round + 1} goes further",
        )
    return replace(plan, first_round=last_round + 1)


@dataclass(frozen=True, slots=True)
class Presence:
    """Who of the planned devices is there, in the site's order."""

    present: tuple[str, ...]
    absent: tuple[str, ...]


def presence(planned: Sequence[str], online: Collection[str]) -> Presence:
    """Split the planned devices by whether they are online."""
    return Presence(tuple(d for d in planned if d in online), tuple(d for d in planned if d not in online))


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one device measured of the global model."""

    device: str
    samples: int
    metrics: Mapping[str, float]


def measured(measurements: Iterable[Measurement], *, excluded: Collection[str]) -> dict[str, float]:
    """One value per metric from the devices' measurements; robust to devices that lie.

    excluded: devices whose update was flagged; they are heard only when nobody else is. A metric counts when most of those
    heard report it. Values far from the median (`OUTLIER_MADS`) are dropped; the rest is averaged by sample counts, capped at
    `SAMPLES_CAP` medians.
    """
    heard = [entry for entry in measurements if entry.samples > 0]
    trusted = [entry for entry in heard if entry.device not in excluded] or heard
    if not trusted:
        return {}
    cap = SAMPLES_CAP * statistics.median(entry.samples for entry in trusted)
    result = {}
    for name in sorted({name for entry in trusted for name in entry.metrics}):
        values = [
            (float(entry.metrics[name]), min(float(entry.samples), cap))
            for entry in trusted
            if name in entry.metrics and math.isfinite(entry.metrics[name])
        ]
        if 2 * len(values) > len(trusted):
            result[name] = _robust_mean(values)
    return result


def _robust_mean(values: Sequence[tuple[float, float]]) -> float:
    middle = statistics.median(value for value, _ in values)
    spread = 1.4826 * statistics.median(abs(value - middle) for value, _ in values)
    # Without any spread (two devices, equal values) a small share of the median stands for it.
    reach = OUTLIER_MADS * max(spread, 0.02 * abs(middle), 1e-9)
    kept = [(value, weight) for value, weight in values if abs(value - middle) <= reach]
    return sum(value * weight for value, weight in kept) / sum(weight for _, weight in kept)


@dataclass(frozen=True, slots=True)
class Timing:
    """Where one reply's time went, in seconds from the moment that the round's messages were sent."""

    device: str
    arrived_s: float
    start_s: float
    train_s: float

    @property
    def transfer_s(self) -> float:
        """On the wire and waiting for polls, in both directions."""
        return max(0.0, self.arrived_s - self.start_s - self.train_s)


def stages(timings: Sequence[Timing], **own_s: float) -> dict[str, float]:
    """A round's seconds by stage: the coordinator's own, and start, train and upload of the reply that came last."""
    last = max(timings, key=lambda timing: timing.arrived_s, default=None)
    devices = {"start": last.start_s, "train": last.train_s, "upload": last.transfer_s} if last else {}
    found = {"start": 0.0, "train": 0.0, "upload": 0.0, **devices, **own_s}
    order = ("send", "start", "train", "upload", "score", "aggregate", "evaluate")
    return {name: round(found.get(name, 0.0), 4) for name in order}
