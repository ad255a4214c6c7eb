"""Starting and stopping runs: what is checked before Flower is asked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction
from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.rounds import Plan, RunInvalid, plan
from edgefl.monitor.control import Control, Node
from edgefl.monitor.device import DeviceRow
from edgefl.monitor.errors import QuorumMissing, Refused, RunActive, RunImpossible
from edgefl.site.model import Run

Value = bool | int | float | str
OPTIONS = frozenset({"parameters", "rule", "byzantine", "resume", "start", "devices", "pardon"})
"""What a run may have of its own beside the fields of the site's `run` section."""

PUT_AWAY_S = 20.0
"""How long Flower may take to end the process of a run that is over."""
_POLL_S = 0.2
_NEWEST = 10

OWN = frozenset({"rounds", "deadline_s", "seed", "quorum"})
"""Fields of the `run` section that a run may have otherwise than the site."""


def configuration(host: HostConfig, overrides: Mapping[str, Any]) -> dict[str, Value]:
    """Flower's run configuration for these overrides; what is not overridden, the ServerApp takes from host.json.

    Raises RunImpossible, naming what is wrong.
    """
    options = {name: value for name, value in overrides.items() if name in OPTIONS}
    fields = {name: value for name, value in overrides.items() if name not in OPTIONS}
    if fixed := sorted(fields.keys() & (Run.model_fields.keys() - OWN)):
        raise RunImpossible(f"{fixed[0]} is the site's, not one run's", hint="change site.yaml and run: edgefl up")
    try:
        run = Run.model_validate({**host.run.model_dump(), **fields})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join([*sorted(OWN), *sorted(OPTIONS)])
        raise RunImpossible(f"a run cannot have {name}: {first['msg']}", hint=f"a run has {known}") from error
    given: dict[str, Value] = {
        "rounds": run.rounds,
        "deadline-s": run.deadline_s,
        "seed": run.seed,
        "quorum": run.needed(len(options.get("devices") or host.devices)),
    }
    config = {name: value for name, value in given.items() if name.replace("-", "_") in fields}
    return {**config, "options": json.dumps(options, sort_keys=True)} if options else config


def planned(host: HostConfig, config: Mapping[str, Value], before: Plan | None = None) -> Plan:
    """What the ServerApp will make of it. before: the plan of the run that it goes on from.

    Raises RunImpossible where the ServerApp would fail.
    """
    try:
        return plan(host, config, "next", before=before)
    except RunInvalid as error:
        raise RunImpossible(error.what, hint=error.hint) from error
    except (TypeError, ValueError) as error:
        raise RunImpossible(f"the run's options make no sense: {error}") from error


def require_quorum(plan: Plan, nodes: Iterable[Node], rows: Mapping[str, DeviceRow]) -> None:
    """Raises QuorumMissing, naming who is missing, when too few devices that may train are online: the run would only wait for
    them. Whom the policy set aside is missing too, unless pardoned.
    """
    online = {node.name for node in nodes if node.state == "online"}
    aside = {name for name, row in rows.items() if row.conduct == "quarantined"} - set(plan.pardoned)
    missing = [name for name in plan.devices if name not in online or name in aside or (name in rows and rows[name].standing)]
    present = len(plan.devices) - len(missing)
    if present < plan.quorum:
        out = [name for name in missing if name in aside and name in online]
        drained = [name for name in missing if name in online and name in rows and rows[name].standing == "drained"]
        ways = ["edgefl devices"]
        ways += [f"edgefl run --pardon {' '.join(out)}"] if out else []
        ways += [f"edgefl undrain {' '.join(drained)} --why TEXT"] if drained else []
        raise QuorumMissing(
            f"{present} of {len(plan.devices)} devices are online and may train, a run needs {plan.quorum}: "
            f"missing {', '.join(missing)}",
            hint="; ".join(ways),
        )


class Runs:
    """Starts and stops runs, one request at a time; what was done stands in the journal before the answer goes out."""

    def __init__(self, host: HostConfig, fab: Path, journal: Journal, control: Control) -> None:
        self._host = host
        self._fab = fab
        self._journal = journal
        self._control = control
        self._lock = asyncio.Lock()

    async def start(
        self, overrides: Mapping[str, Any], rows: Mapping[str, DeviceRow], who: str, *, why: str = "", before: Plan | None = None
    ) -> str:
        """Start a run and return its id. before: the plan of the run that it goes on from.

        Raises RunImpossible, RunActive, QuorumMissing, or what Flower said.
        """
        config = configuration(self._host, overrides)
        intended = planned(self._host, config, before)
        async with self._lock:
            await self._idle()
            require_quorum(intended, await asyncio.to_thread(self._control.nodes), rows)
            number = str(await asyncio.to_thread(self._control.start_run, self._fab, config))
            await self._record(who, "run", number, dict(overrides), why)
        return number

    async def _idle(self) -> None:
        """Raises RunActive when Flower has a run that is not over.

        Whoever followed a run knows from the journal that it is over, and may start the next one, while Flower still ends its
        ServerApp: that is waited for.
        """
        ends = time.monotonic() + PUT_AWAY_S
        while active := [run for run in await asyncio.to_thread(self._control.runs) if run.state != "finished"]:
            told = {record["run"] for record in await asyncio.to_thread(self._journal.newest, ["run_finished"], size=_NEWEST)}
            if time.monotonic() >= ends or any(run.run not in told for run in active):
                raise RunActive(f"run {active[0].run} is {active[0].state}: one run at a time", hint="edgefl stop")
            await asyncio.sleep(_POLL_S)

    async def stop(self, run: str, who: str, why: str = "") -> bool:
        """Stop a run; False when it was over already.

        The wish is written down before Flower obeys: the ServerApp, turned away in whatever call it is, looks for it to say why.
        """
        if not run.isdecimal():
            raise Refused(f"{run!r} is no run", hint="edgefl rounds")
        async with self._lock:
            listed = await asyncio.to_thread(self._control.runs)
            if any(known.run == run and known.state != "finished" for known in listed):
                await self._record(who, "stop", run, {}, why)
            return await asyncio.to_thread(self._control.stop_run, int(run))

    async def _record(self, who: str, action: str, run: str, detail: dict[str, Any], why: str = "") -> None:
        said = OperatorAction(who=who, action=action, subject=f"run {run}", why=why, detail=detail)
        await asyncio.to_thread(self._journal.append, said, run=run)
