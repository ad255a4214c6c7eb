"""The monitor's HTTP API. Every answer is a function of the journal's state; every change becomes an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from edgefl import __version__
from edgefl.errors import EdgeflError
from edgefl.events import replay, schema
from edgefl.events.schema import BODIES
from edgefl.federation.hostconfig import HostConfig, Places
from edgefl.monitor import drift, enrolments, metrics, renewals
from edgefl.monitor.access import Admission, caller, refusal
from edgefl.monitor.errors import Refused, Unavailable
from edgefl.monitor.evolve import evolve
from edgefl.monitor.logs import MOST_LINES, MOST_TEXT, Level, Wanted, journald, require_journald
from edgefl.monitor.models import LAST, Library
from edgefl.monitor.past import MOST_KINDS, MOST_PAST
from edgefl.monitor.presence import Presence
from edgefl.monitor.pressure import Pressure
from edgefl.monitor.runs import Runs, planned
from edgefl.monitor.status import Status
from edgefl.monitor.stream import Attended, Streams
from edgefl.monitor.tail import Tail

Answer = TypeVar("Answer")
NDJSON = "application/x-ndjson"
FROM_OPERATORS = (
    schema.OperatorAction,
    schema.DeviceFacts,
    schema.DeviceFitness,
    schema.DeviceState,
    schema.CertificateIssued,
    schema.CertificateRevoked,
    schema.EnrolmentOpened,
    schema.IsolationProven,
    schema.AuditFinished,
)
"""What an operator may append. What happens in a run, only the ServerApp says."""
MOST_ACTIONS = 1000


@dataclass(frozen=True, slots=True)
class Monitor:
    """The parts of the service that its endpoints use."""

    host: HostConfig
    tail: Tail
    presence: Presence
    runs: Runs
    streams: Streams
    library: Library
    watchers: drift.Watchers = field(default_factory=drift.Watchers)

    def status(self) -> Status:
        """The state now; a device that is online was seen when the SuperLink was last asked."""
        state, seen = self.tail.state, self.presence.seen
        rows = {
            name: evolve(row, seen=max(seen[name], row.seen or seen[name])) if row.connected and name in seen else row
            for name, row in state.devices.items()
        }
        broken = self.tail.broken
        return Status(
            state=evolve(state, devices=rows),
            now=datetime.now(UTC),
            quorum=planned(self.host, {}).quorum,
            version=__version__,
            superlink=self.presence.problem,
            journal=broken.what if broken else self.tail.problem,
            broken_seq=broken.seq if broken else 0,
        )


def build(monitor: Monitor) -> FastAPI:
    """The app over these parts; the caller runs their tasks."""
    app = FastAPI(title="edgefl monitor", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Pressure)
    app.add_middleware(Admission)
    _translate_errors(app)
    _reading(app, monitor)
    _acting(app, monitor)
    _models(app, monitor)
    drift.add(app, monitor.tail.journal, monitor.watchers)
    for way_in in (renewals, enrolments):
        way_in.add(app, monitor.host, monitor.tail, Places.from_environment())
    return app


def _reading(app: FastAPI, monitor: Monitor) -> None:
    @app.get("/v1/status")
    async def status(*, updates: bool = True) -> Response:
        """The whole state; `updates=false` leaves out each round's single updates."""
        await monitor.tail.catch_up()
        return _json(monitor.status().to_json(updates=updates))

    @app.get("/v1/devices")
    async def devices() -> dict[str, Any]:
        """The devices, in the site's order."""
        await monitor.tail.catch_up()
        said = monitor.status().as_dict(updates=False)
        return {"seq": said["state"]["seq"], "now": said["now"], "devices": list(said["state"]["devices"].values())}

    @app.get("/v1/rounds")
    async def rounds() -> dict[str, Any]:
        """The current or last run, its rounds with their single updates, and the runs before."""
        await monitor.tail.catch_up()
        state = monitor.tail.state.as_dict()
        return {"seq": state["seq"], "run": state["run"], "runs": state["runs"], "rounds": state["rounds"]}

    @app.get("/v1/events")
    async def events(after: Annotated[int, Query(ge=0)] = 0, *, follow: bool = False) -> StreamingResponse:
        """Events after a seq as NDJSON; with `follow` for ever. Lines with `heartbeat` are signs of life."""
        await monitor.tail.catch_up()
        monitor.streams.check(after)
        return StreamingResponse(monitor.streams.lines(after, follow=follow), media_type=NDJSON)

    @app.get("/v1/past")
    async def past(
        kind: Annotated[list[str], Query(min_length=1, max_length=MOST_KINDS)],
        before: Annotated[int, Query(ge=0)] = 0,
        most: Annotated[int, Query(ge=1, le=MOST_PAST)] = 200,
    ) -> dict[str, Any]:
        """Events of these kinds, the newest first; `before` in the answer asks for the next page, and is 0 on the last."""
        found = await asyncio.to_thread(monitor.tail.journal.newest, kind, before=before, size=most)
        return {"events": found, "before": found[-1]["seq"] if len(found) == most else 0}

    @app.get("/v1/recording")
    async def recorded(run: str = "") -> StreamingResponse:
        """A run, or the whole journal, as a recording that verifies by itself."""
        about = await asyncio.to_thread(replay.header, monitor.tail.journal, run)
        return StreamingResponse(replay.recording(monitor.tail.journal, about), media_type=NDJSON)

    @app.get("/v1/logs")
    async def logs(
        since: datetime | None = None,
        level: Level = "info",
        lines: Annotated[int, Query(ge=0, le=MOST_LINES)] = 200,
        text: Annotated[str, Query(max_length=MOST_TEXT)] = "",
        *,
        follow: bool = False,
    ) -> StreamingResponse:
        """The coordinator's service logs as NDJSON."""
        wanted = Wanted(follow, since, level, lines, text)
        await require_journald(monitor.host.name)
        found = journald(wanted, monitor.host.name)
        return Attended((line.to_json() + "\n" async for line in found), media_type=NDJSON)

    @app.get("/metrics")
    async def scrape() -> Response:
        """Prometheus' text format."""
        return Response(metrics.exposition(monitor.status), media_type=metrics.CONTENT_TYPE)


def _acting(app: FastAPI, monitor: Monitor) -> None:
    @app.post("/v1/runs", status_code=201)
    async def start(
        overrides: Annotated[dict[str, Any], Body(default_factory=dict, embed=True)], why: Annotated[str, Body(embed=True)] = ""
    ) -> dict[str, Any]:
        """Start a run; `overrides` are fields of the site's `run` section, or names of runs.OPTIONS (resume: or `last`)."""
        await monitor.tail.catch_up()
        state = monitor.tail.state
        prepared, before = await asyncio.to_thread(monitor.library.prepared, overrides, state)
        run = await monitor.runs.start(prepared, state.devices, caller().name, why=why, before=before)
        return {"run": run}

    @app.post("/v1/runs/{run}/stop")
    async def stop(run: str, why: Annotated[str, Body(embed=True)] = "") -> dict[str, Any]:
        """Stop a run; `stopped` is false when it was over already."""
        return {"run": run, "stopped": await monitor.runs.stop(run, caller().name, why)}

    @app.post("/v1/actions", status_code=201)
    async def act(said: Annotated[dict[str, Any] | list[dict[str, Any]], Body()]) -> dict[str, Any]:
        """Append what an operator did or found, one event or several at once: all or none."""
        bodies = [_body(one) for one in (said if isinstance(said, list) else [said])[: MOST_ACTIONS + 1]]
        if not 0 < len(bodies) <= MOST_ACTIONS:
            raise Refused(f"between 1 and {MOST_ACTIONS} events at a time")
        events = await asyncio.to_thread(monitor.tail.journal.append_all, bodies)
        await monitor.tail.catch_up()
        return {"first": events[0].seq, "last": events[-1].seq}


def _models(app: FastAPI, monitor: Monitor) -> None:
    async def asked(question: Callable[..., Answer], *arguments: str) -> Answer:
        """What the library says, out of the loop's way; whatever it wrote is in the state afterwards."""
        await monitor.tail.catch_up()
        answer = await asyncio.to_thread(question, *arguments, monitor.tail.state)
        await monitor.tail.catch_up()
        return answer

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Every version of the global model, oldest first."""
        return await asked(monitor.library.listed)

    @app.get("/v1/models/card")
    async def card(model: str = LAST) -> dict[str, Any]:
        """One version: RUN/ROUND, RUN, `last` or `best`."""
        return await asked(monitor.library.card, model)

    @app.get("/v1/models/compare")
    async def compare(a: str, b: str = LAST) -> dict[str, Any]:
        """Two versions side by side."""
        return await asked(monitor.library.compared, a, b)

    @app.get("/v1/models/file")
    async def file(model: str = LAST) -> FileResponse:
        """A version's safetensors."""
        return FileResponse(await asyncio.to_thread(monitor.library.file, model), media_type="application/octet-stream")

    @app.post("/v1/models/export", status_code=201)
    async def export(model: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
        """A version's card; that it leaves stands in the journal, and it is kept for good."""
        return await asked(monitor.library.export, model, caller().name)

    @app.post("/v1/models/start", status_code=201)
    async def choose(model: Annotated[str, Body()], why: Annotated[str, Body()] = "") -> dict[str, Any]:
        """Have the next run start from a version; an empty name: from the task's own model."""
        return await asked(monitor.library.choose, model, caller().name, why)


def _body(said: dict[str, Any]) -> schema.Body:
    """An event that an operator may append; who acts is what the certificate says, not what the body claims."""
    try:
        body = BODIES.validate_python(said)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"not an event: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if not isinstance(body, FROM_OPERATORS):
        raise Refused(f"an operator does not write {body.type}", hint="only what operators do and find")
    signed = isinstance(body, schema.OperatorAction | schema.AuditFinished | schema.EnrolmentOpened)
    return body.model_copy(update={"who": caller().name}) if signed else body


def _translate_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return refusal(error)

    @app.exception_handler(EdgeflError)
    async def failed(_: Request, error: EdgeflError) -> Response:
        unavailable = Unavailable(error.what, hint=error.hint, where=error.where)
        unavailable.exit_code = error.exit_code
        return refusal(unavailable)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(Refused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        answer = refusal(Refused(f"{request.method} {request.url.path}: {error.detail}"))
        answer.status_code = error.status_code
        return answer


def _json(text: bytes) -> Response:
    return Response(text, media_type="application/json")
