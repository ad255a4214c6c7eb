"""What the gate, a real haproxy, writes of its callers: fields for journald, whatever they send."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.monitor.logs import parse
from tests.monitor.conftest import Service, wait_for

SENT = {
    "/v1/status": "/v1/status",
    '/v1/"quoted"': '/v1/"quoted"',
    "/v1/back\\slash": "/v1/back\\slash",
    '/v1/x","message":"mine': '/v1/x","message":"mine',
    "/v1/logs?text=secret-7": "/v1/logs",
    "/v1/gr%c3%bc%c3%9fe%0a%00": "/v1/gr%c3%bc%c3%9fe%0a%00",
    "/v1/" + "x" * 9000: "/v1/" + "x" * 508,
}
"""What a caller asks for, and what the log has of it."""


def lines(service: Service) -> list[str]:
    """What the gate has written so far."""
    return (service.directory / "haproxy.log").read_text().splitlines()


def ask(gate: str, identities: Path, who: str, path: str) -> None:
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    context.load_cert_chain(identities / f"{who}.crt", identities / f"{who}.key")
    with (
        socket.create_connection((gate, layout.API_PORT), 10) as plain,
        context.wrap_socket(plain, server_hostname="coordinator") as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: coordinator\r\nConnection: close\r\n\r\n".encode())
        while secure.recv(1 << 16):
            pass


@pytest.mark.parametrize("sent", SENT)
def test_who_was_refused_stands_there_as_fields_whatever_it_asked_for(
    gate: str, identities: Path, service: Service, sent: str
) -> None:
    before = len(lines(service))
    ask(gate, identities, "device", sent)
    wait_for(lambda: len(lines(service)) > before, "the gate's line")
    (line,) = lines(service)[before:]
    fields = json.loads(line[3:])
    assert (line[:3], fields["log.level"], fields["log.logger"], fields["ecs.version"]) == ("<6>", "info", "gate", "9.3.0")
    assert set(fields) == {"@timestamp", "message", "log.level", "log.logger", "ecs.version"}
    kept = {"__REALTIME_TIMESTAMP": "1772442000123456", "_SYSTEMD_UNIT": "edgefl-gate.service", "PRIORITY": "6"}
    read = parse(json.dumps({**kept, "MESSAGE": line[3:]}), "coordinator")
    assert read is not None
    assert 'cn="edge-01" role="device"' in read.message
    assert f" GET {SENT[sent]} 403 " in read.message
    assert "secret-7" not in line


def test_who_was_no_caller_at_all_stands_there_with_the_reason(gate: str, service: Service) -> None:
    before = len(lines(service))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((gate, layout.API_PORT), 10) as plain,
        context.wrap_socket(plain, server_hostname="coordinator") as secure,
        pytest.raises(OSError, match=r"(?i)certificate|reset|broken pipe|eof"),  # in TLS 1.3 the no comes after the handshake
    ):
        secure.recv(1)
    wait_for(lambda: len(lines(service)) > before, "the gate's line")
    (line,) = lines(service)[before:]
    assert "certificate" in json.loads(line[3:])["message"]
