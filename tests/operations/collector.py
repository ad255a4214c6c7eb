"""A collector of traces on the loopback: real HTTP, and OTLP read by OpenTelemetry's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Seen:
    """A span as it came, with whose it is."""

    service: str
    instance: str
    span: Span

    @property
    def attributes(self) -> dict[str, Any]:
        return values(self.span.attributes)


@dataclass
class Collector:
    """requests: all that was posted and taken. answers: status codes that are given before any is taken. rejects: how many spans
    each answer says it left out."""

    address: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    rejects: int = 0

    @property
    def spans(self) -> list[Seen]:
        return [
            Seen(values(of.resource.attributes)["service.name"], values(of.resource.attributes)["service.instance.id"], span)
            for request in self.requests
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector until the block ends."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
                return self._answer(404, b"no traces here")
            if collector.answers:
                return self._answer(collector.answers.pop(0), b"not now")
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            collector.headers.append(dict(self.headers))
            said = ExportTraceServiceResponse()
            if collector.rejects:
                said.partial_success.rejected_spans = collector.rejects
                said.partial_success.error_message = "too old"
            return self._answer(200, said.SerializeToString())

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            if code == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """What the test wants to know it asks."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector.address = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
