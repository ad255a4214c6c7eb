"""Rounds as traces of OpenTelemetry's: one trace a round, its stages, and each device's part, from the journal's own times.

Ids follow from site, run, round and place in it, so that a round that is told twice is the same trace. A device is an instance of
a service, as if it told its part itself; but hosts carry nothing for this, and nothing of it runs while they train.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgefl import __version__
from edgefl.errors import EdgeflError
from edgefl.events.schema import Event, RoundFinished, RoundSkipped, RoundStarted, RunFinished, RunStarted
from edgefl.monitor.evolve import evolve
from edgefl.monitor.round import RoundRow, UpdateRow
from edgefl.monitor.timeline import Part, Stretch, hull, timeline
from edgefl.operations.delivery import Delivery, NotDelivered, headers_in
from edgefl.operations.export import NotAsked, Told
from edgefl.site.model import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

Value = str | bool | int | float | None
_TOLD = (
    *("samples", "bytes_up", "bytes_down", "cpu_s", "loss", "accuracy", "staleness"),
    *("verdict", "score", "threshold", "weight", "norm", "cosine", "reputation", "reason"),
)
"""Of an update that came, as the journal has it."""
_PROTOBUF = {"Content-Type": "application/x-protobuf"}


class TracesMissing(EdgeflError):
    """OpenTelemetry's messages are not on this machine."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A round of a run that is over."""

    run: str
    row: RoundRow


@dataclass(slots=True)
class Rounds:
    """Follows events from anywhere between two rounds on, and gives each round when it is over."""

    run: str = ""
    since: datetime | None = None
    row: RoundRow | None = None
    last: datetime | None = None

    def after(self, event: Event) -> Ended | None:
        """The round that is over with this event; also one that its run did not bring to an end."""
        body = event.body
        if isinstance(body, RunStarted):
            lost = self._lost("its run came to no end")
            self.run, self.since, self.last = event.run, event.at, event.at
            return lost
        if not event.run or self.run not in {"", event.run}:
            return None
        self.run, self.last = event.run, event.at
        match body:
            case RoundStarted():
                self.row = RoundRow.begun(body, event, self.since)
            case RoundFinished() | RoundSkipped():  # one that too few devices came to never started
                row = self.row or RoundRow(number=event.round, started=event.at, since=self.since)
                self.row, self.since = None, event.at
                return Ended(event.run, row.after(event))
            case RunFinished():
                return self._lost(f"the run {body.status}" + (f": {body.reason}" if body.reason else ""))
            case _ if self.row is not None and self.row.number == event.round:
                self.row = self.row.after(event)
        return None

    def _lost(self, why: str) -> Ended | None:
        row, self.row = self.row, None
        return Ended(self.run, evolve(row, state="skipped", finished=self.last, reason=why)) if row is not None else None


@dataclass(slots=True)
class Collector:
    """Takes each round, once it is over, to a collector by OTLP over HTTP."""

    site: Site
    delivery: Delivery
    kind: str = "traces"
    rounds: Rounds = field(default_factory=Rounds)

    @property
    def to(self) -> str:
        """The collector's address."""
        return self.delivery.address

    async def take(self, event: Event, *, is_new: bool) -> Told | None:
        """Send the round that is over with this event. Raises NotDelivered."""
        ended = self.rounds.after(event)
        if ended is None or not is_new:
            return None
        answer = await self.delivery.ask("POST", content=request(self.site, ended), headers=_PROTOBUF)
        what = f"of run {ended.run}: trace {trace_id(self.site, ended).hex()}"
        return Told(f"round {ended.row.number}", what, is_settled=True, lacks=_left_out(answer.content, self.to))


@asynccontextmanager
async def collector(site: Site) -> AsyncIterator[Collector]:
    """The site's collector. Raises NotAsked, TracesMissing, SecretUnusable."""
    wanted = site.observability.traces
    if wanted is None:
        hint = "add under observability: traces: {endpoint: https://192.0.2.80:4318/v1/traces}"
        raise NotAsked("site.yaml names no collector of traces", hint=hint)
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.proto") is None:
        raise TracesMissing("traces need OpenTelemetry's messages, which are not installed", hint="pip install 'edgefl[traces]'")
    headers = headers_in(wanted.headers_file) if wanted.headers_file is not None else {}
    async with Delivery(wanted.endpoint, headers) as delivery:
        yield Collector(site, delivery)


def trace_id(site: Site, ended: Ended) -> bytes:
    """Of a round's trace, 16 bytes. A round that a run does once more after its death is another."""
    return _digest(site.name, ended.run, ended.row.number, ended.row.started.isoformat())[:16]


def request(site: Site, ended: Ended) -> bytes:
    """A round as an ExportTraceServiceRequest (OpenTelemetry Protocol 1.x)."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    row, trace = ended.row, trace_id(site, ended)
    stretches = timeline(row)
    whole = hull([Part("round", row.started, row.finished or row.started), *stretches])
    root = _span(trace, "", Part("round", *whole), _of_round(ended), row.reason if row.state == "skipped" else "")
    own, devices = [root], []
    for one in stretches:
        if one.update is None:
            own.append(_span(trace, one.name, one, {}, parent=root))
        else:
            devices.append(_resource(site.name, "edgefl-device", one.name, list(_of_device(trace, root, one, one.update))))
    coordinator = _resource(site.name, "edgefl-coordinator", site.coordinator.name, own)
    return bytes(ExportTraceServiceRequest(resource_spans=[coordinator, *devices]).SerializeToString(deterministic=True))


def _of_device(trace: bytes, root: Span, stretch: Stretch, update: UpdateRow) -> Iterator[Span]:
    whole = Part("device", stretch.begin, stretch.end)
    place = f"device/{stretch.name}"
    span = _span(trace, place, whole, _of_update(update), update.dropped or update.rejected, parent=root)
    yield span
    for part in stretch.parts:
        yield _span(trace, f"{place}/{part.name}", part, {}, parent=span)


def _of_round(ended: Ended) -> Mapping[str, Value]:
    row = ended.row
    return {
        "edgefl.run": ended.run,
        "edgefl.round": row.number,
        "edgefl.selection": row.selection,
        "edgefl.secure": row.secure or None,
        "edgefl.participants": len(row.participants),
        "edgefl.dropped": len(row.dropped),
        "edgefl.rejected": len(row.rejected),
        "edgefl.flagged": len(row.flagged),
        "edgefl.bytes_up": row.bytes_up,
        "edgefl.bytes_down": row.bytes_down,
        "edgefl.accuracy": row.accuracy,
        "edgefl.loss": row.loss,
        "edgefl.model.sha256": row.model_sha256 or None,
    }


def _of_update(update: UpdateRow) -> Mapping[str, Value]:
    said: dict[str, Value] = {"edgefl.device": update.device, "edgefl.flagged": update.flagged}
    told = _TOLD if update.samples is not None else ()
    return said | {f"edgefl.{name}": value for name in told if (value := getattr(update, name)) != ""}


def _span(
    trace: bytes, place: str, part: Part, about: Mapping[str, Value], error: str = "", *, parent: Span | None = None
) -> Span:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    return Span(
        trace_id=trace,
        span_id=_digest(trace.hex(), place)[:8],
        parent_span_id=parent.span_id if parent is not None else b"",
        name=part.name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_nanoseconds(part.begin),
        end_time_unix_nano=_nanoseconds(part.end),
        attributes=_attributes(about),
        status=Status(code=Status.STATUS_CODE_ERROR, message=_text(error)) if error else Status(),
    )


def _resource(site: str, service: str, instance: str, spans: list[Span]) -> ResourceSpans:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

    whose = {"service.name": service, "service.namespace": site, "service.instance.id": instance}
    scope = InstrumentationScope(name="edgefl", version=__version__)
    return ResourceSpans(resource=Resource(attributes=_attributes(whose)), scope_spans=[ScopeSpans(scope=scope, spans=spans)])


def _attributes(about: Mapping[str, Value]) -> list[KeyValue]:
    """What is not known is left out."""
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return [KeyValue(key=name, value=_any(value)) for name, value in about.items() if value is not None]


def _any(value: str | float) -> AnyValue:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
    return AnyValue(string_value=_text(value))


def _text(said: str) -> str:
    """What JSON carries and UTF-8 does not, half a character, becomes a question mark."""
    return said.encode(errors="replace").decode()


def _left_out(answer: bytes, to: str) -> str:
    """What the collector says that it left out, of which the protocol forbids to tell it again; empty where it took all."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        said = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError as error:
        raise NotDelivered(f"{to} answers as no collector does", hint="traces.endpoint ends with /v1/traces") from error
    return f"{to} left {said.rejected_spans} spans out: {said.error_message}" if said.rejected_spans else ""


def _nanoseconds(at: datetime) -> int:
    """Since 1970, without what a float would lose."""
    return int(at.replace(microsecond=0).timestamp()) * 10**9 + at.microsecond * 1000


def _digest(*parts: str | int) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
