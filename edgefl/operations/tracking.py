"""Runs as MLflow's: parameters, metrics of each round, the model, and a record of what privacy cost and who was flagged.

By MLflow's REST API 2.0: its client would load numpy and pandas into the operator's process, and take what opens the server from
the environment. A run is found again by a tag; the same metric of the same round is one to the server, however often it is told.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import to_json

from edgefl.errors import ExitCode
from edgefl.events.schema import Event, RoundFinished, RoundSkipped, RunFinished, RunStarted
from edgefl.monitor.errors import Refused
from edgefl.monitor.round import RoundRow
from edgefl.monitor.state import FederationState
from edgefl.operations import models
from edgefl.operations.delivery import Delivery, read, token
from edgefl.operations.export import NotAsked, Told
from edgefl.progress import Finished
from edgefl.site.model import Site

_API = "/api/2.0/mlflow/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_AT_ONCE = {"metrics": 1000, "params": 100}
"""What the server takes in one call."""
_LONGEST_VALUE = 6000
_FOREIGN = re.compile(r"[^\w. -]")
"""What the server has in no metric's name, and a task may have in its own; a slash is for devices."""
_ENDS = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
RUN, SITE, MODEL = "edgefl.run", "edgefl.site", "edgefl.model.sha256"
"""Tags."""


@dataclass(slots=True)
class Tracker:
    """Takes runs to one experiment of a tracking server.

    begun: the run that is going, with what it began with and when. run_id: MLflow's own of it; artifacts: their path.
    """

    site: Site
    delivery: Delivery
    experiment: str
    kind: str = "mlflow"
    state: FederationState = field(default_factory=FederationState)
    begun: tuple[str, RunStarted, datetime] | None = None
    run_id: str = ""
    artifacts: str = ""

    @property
    def to(self) -> str:
        """The server and the experiment."""
        return f"{self.delivery.address}, experiment {self.experiment}"

    async def take(self, event: Event, *, is_new: bool) -> Told | None:
        """Tell of a run's begin, a round, or a run's end, with which all of it is told. Raises NotDelivered, ModelDamaged."""
        self.state = self.state.apply(event)
        body, row = event.body, self.state.rounds[-1] if self.state.rounds else None
        if isinstance(body, RunStarted):
            if is_new and self.begun is not None and self.begun[0] != event.run:  # nobody saw how the run before it ended
                await self._call("POST", "runs/update", {"run_id": await self._found(), "status": "FAILED"})
            self.begun, self.run_id = (event.run, body, event.at), ""
        if self.begun is None or event.run != self.begun[0]:
            return None
        told = await self._tell(event, row) if is_new else None
        if isinstance(body, RunFinished):
            self.begun = None
        return told

    async def _tell(self, event: Event, row: RoundRow | None) -> Told | None:
        match event.body:
            case RunStarted() as body:
                await self._found()
                return Told(f"run {event.run}", f"{body.task}, {body.rule}, {body.rounds} rounds", is_settled=False)
            case RoundFinished() | RoundSkipped() if row is not None and row.number == event.round:
                await self._found()
                await self._log("metrics", list(metrics(row, self.state, event.at)))
                return Told(f"round {event.round}", row.state, is_settled=False)
            case RunFinished() as body:
                await self._found()
                return Told(f"run {event.run}", f"{body.status}; {await self._end(event, body)}", is_settled=True)
        return None

    async def _found(self) -> str:
        """MLflow's own of the run that is going, made where there is none yet."""
        if self.run_id or self.begun is None:
            return self.run_id
        run, body, at = self.begun
        experiment = await self._experiment()
        wanted = f"tags.`{RUN}` = '{_quoted(run)}' AND tags.`{SITE}` = '{_quoted(self.site.name)}'"
        found = await self._call("POST", "runs/search", {"experiment_ids": [experiment], "filter": wanted, "max_results": 1})
        tags = {RUN: run, SITE: self.site.name, "edgefl.resumes": body.resumes, "mlflow.source.name": body.task}
        new = {
            "experiment_id": experiment,
            "run_name": f"{self.site.name} {run}",
            "start_time": _milliseconds(at),
            "tags": [{"key": key, "value": value} for key, value in tags.items() if value],
        }
        made = found if found.get("runs") else {"runs": [(await self._call("POST", "runs/create", new, tries=1)).get("run")]}
        info = self._part(made, "runs", 0, "info")
        kept = urlsplit(str(self._part(info, "artifact_uri")))
        if kept.scheme != "mlflow-artifacts":
            where = f"keeps artifacts in {kept.scheme or 'a directory'}, where only MLflow's own client writes"
            raise self.delivery.unusable(
                where, hint="mlflow server --default-artifact-root mlflow-artifacts:/, another experiment"
            )
        self.run_id, self.artifacts = str(self._part(info, "run_id")), kept.path
        await self._log("params", [{"key": key, "value": value[:_LONGEST_VALUE]} for key, value in parameters(body).items()])
        return self.run_id

    async def _experiment(self) -> str:
        path = f"{_API}experiments/get-by-name"
        answer = await self.delivery.answer("GET", path, params={"experiment_name": self.experiment})
        if answer.status_code == 404:
            return str(self._part(await self._call("POST", "experiments/create", {"name": self.experiment}), "experiment_id"))
        if not answer.is_success:
            raise self.delivery.refusal(answer)
        return str(self._part(self.delivery.understood(answer), "experiment", "experiment_id"))

    async def _end(self, event: Event, body: RunFinished) -> str:
        """The run's end, its record and its model; what there is to say of the model."""
        with tempfile.TemporaryDirectory(dir=self.site.state, prefix="export-") as directory:
            place = Path(directory)
            (place / "record.json").write_bytes(to_json(record(self.state, event), indent=2, inf_nan_mode="strings") + b"\n")
            await self._keep(place / "record.json", "")
            what = "no model" if not body.model else await self._keep_model(event.run, body, place)
        update = {"run_id": self.run_id, "status": _ENDS[body.status], "end_time": _milliseconds(event.at)}
        await self._call("POST", "runs/update", update)
        return what

    async def _keep_model(self, run: str, body: RunFinished, place: Path) -> str:
        try:
            said = [event async for event in models.export(self.site, run, place)]
        except Refused as refused:
            if refused.exit_code != ExitCode.USAGE:
                raise
            return "its model is no longer on the coordinator"
        detail = said[-1].detail if isinstance(said[-1], Finished) else {}
        for file in (Path(detail["file"]), Path(detail["card"])):
            await self._keep(file, "model/")
        await self._call("POST", "runs/set-tag", {"run_id": self.run_id, "key": MODEL, "value": body.model_sha256})
        return f"its model {detail['name']}"

    async def _keep(self, file: Path, under: str) -> None:
        """A file among the run's artifacts; the same name is the same file, in its place."""
        await self.delivery.ask("PUT", f"{_ARTIFACTS}{self.artifacts}/{under}{file.name}", file=file)

    async def _log(self, kind: str, values: list[dict[str, Any]]) -> None:
        size = _AT_ONCE[kind]
        for start in range(0, len(values), size):
            await self._call("POST", "runs/log-batch", {"run_id": self.run_id, kind: values[start : start + size]})

    def _part(self, said: Any, *path: str | int) -> Any:
        """What must be in an answer of MLflow's. Raises NotDelivered where it is not."""
        try:
            for step in path:
                said = said[step]
        except (KeyError, IndexError, TypeError) as error:
            raise self.delivery.unusable("answers as no tracking server of MLflow's does") from error
        return said

    async def _call(self, method: str, path: str, said: Mapping[str, Any], **how: int) -> dict[str, Any]:
        return self.delivery.understood(await self.delivery.ask(method, _API + path, json=said, **how))


@asynccontextmanager
async def tracker(site: Site) -> AsyncIterator[Tracker]:
    """The site's tracking server. Raises NotAsked, SecretUnusable."""
    wanted = site.observability.mlflow
    if wanted is None:
        hint = "add under observability: mlflow: {server: https://192.0.2.80:5000}"
        raise NotAsked("site.yaml names no tracking server of MLflow's", hint=hint)
    headers, account = {}, None
    if wanted.secret_file is not None and wanted.username:
        account = (wanted.username, read(wanted.secret_file))
    elif wanted.secret_file is not None:
        headers = {"Authorization": f"Bearer {token(wanted.secret_file)}"}
    async with Delivery(wanted.server.rstrip("/"), headers, account) as delivery:
        yield Tracker(site, delivery, wanted.experiment or site.name)


def parameters(body: RunStarted) -> dict[str, str]:
    """What a run was begun with, sections as `privacy.mode`."""
    plain = {"task": body.task, "rule": body.rule, "rounds": body.rounds, "quorum": body.quorum, "site_hash": body.site_hash}
    chosen = {"first_round": body.first_round, "resumes": body.resumes, "start": body.start, "devices": " ".join(body.devices)}
    sections = {"privacy": body.privacy, "secure": body.secure, "policy": body.policy}
    return {name: text for name, text in _flat({**plain, **chosen, **sections}) if text}


def metrics(row: RoundRow, state: FederationState, at: datetime) -> Iterator[dict[str, Any]]:
    """A round's figures as MLflow's metrics, a device's under its name; what is not finite is no metric."""
    own: dict[str, float | None] = {
        **{_FOREIGN.sub("_", name): value for name, value in row.metrics.items()},
        "accuracy": row.accuracy,
        "loss": row.loss,
        "skipped": float(row.state == "skipped"),
        "bytes_up": row.bytes_up,
        "bytes_down": row.bytes_down,
        **{name: len(getattr(row, name)) for name in ("participants", "dropped", "rejected", "flagged")},
        **{f"seconds.{stage}": spent for stage, spent in row.seconds.items()},
        **{f"ratio.{way}": times for way, times in row.ratio.items()},
        "epsilon.models": state.models.spent if state.models is not None else None,
    }
    spent = [state.devices[name].epsilon.spent for name, update in row.updates.items() if update.spent is not None]
    own["epsilon.most"] = max(spent, default=None)
    for name, update in row.updates.items():
        of_device = {"accuracy": update.accuracy, "loss": update.loss, "score": update.score, "weight": update.weight}
        of_device["epsilon"] = state.devices[name].epsilon.spent if update.spent is not None else None
        own |= {f"{name}/{key}": value for key, value in of_device.items()}
    for key, value in own.items():
        if value is not None and isfinite(value):
            yield {"key": key, "value": value, "timestamp": _milliseconds(at), "step": row.number}


def record(state: FederationState, ended: Event) -> dict[str, Any]:
    """What a run cost in privacy, whom it found to misbehave, and the event of the journal that vouches for it.

    Of devices, what their ledgers said; flags with their scores, and what became of the devices.
    """
    run = state.run
    members = {name: row for name, row in state.devices.items() if run is not None and name in run.devices}
    flags = [
        {"device": name, **asdict(flag)} for name, row in members.items() for flag in row.flags if flag.run == ended.run
    ]  # fmt: skip
    return {
        "site": state.site,
        "site_hash": state.site_hash,
        "run": ended.run,
        "journal": {"seq": ended.seq, "hash": ended.hash},
        "privacy": {
            "terms": run.privacy if run is not None else {},
            "devices": {name: asdict(row.epsilon) for name, row in members.items() if row.epsilon.limit is not None},
            "models": asdict(state.models) if state.models is not None else None,
        },
        "robustness": {
            "rule": run.rule if run is not None else "",
            "flags": flags,
            "devices": {
                name: {"conduct": row.conduct, "updates": row.updates, "rejected": row.rejected, "dropped": row.dropped}
                for name, row in members.items()
            },
        },
    }


def _flat(section: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", "" if value is None else str(value)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _quoted(text: str) -> str:
    return text.replace("'", "")
