"""A Prometheus on a host of its own, as the gate sees it: a name, a certificate, two paths. A real haproxy, and what it asks."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from edgefl import layout
from edgefl.pki.profiles import profiles
from tests.monitor import watching
from tests.monitor.conftest import METRICS_NAME, Programs, Service, wait_for


def test_the_name_is_the_profiles() -> None:
    assert profiles().roles["metrics"].names == [METRICS_NAME]


@dataclass
class Exporter:
    """What answers on the coordinator's loopback for how the host is. asked: for which paths it was."""

    says: bytes = b"node_memory_MemTotal_bytes 1\n"
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def exporter(service: Service, gate: str) -> Iterator[Exporter]:
    found = re.search(r"server exporter (\S+):(\d+)", (service.directory / "haproxy.cfg").read_text())
    assert found
    made = Exporter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # whoever asked may have had enough
                self.wfile.write(made.says)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((found[1], int(found[2])), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def asked(gate: str, identities: Path, who: str, path: str, name: str = METRICS_NAME) -> tuple[str, x509.Certificate]:
    """The first line and the last of what the gate answers under a name, and the certificate that it shows there."""
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    context.load_cert_chain(identities / f"{who}.crt", identities / f"{who}.key")
    with (
        socket.create_connection((gate, layout.API_PORT), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while part := secure.recv(1 << 16):
            said += part
        shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
    lines = said.decode().splitlines()
    return f"{lines[0]} {lines[-1]}".partition(" ")[2], shown


def test_the_gate_shows_each_name_its_own_certificate(gate: str, identities: Path) -> None:
    for name, role in ((METRICS_NAME, "metrics"), ("coordinator", "gate")):
        _, shown = asked(gate, identities, "scraper", "/metrics", name)
        names = shown.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        assert isinstance(names, x509.SubjectAlternativeName)
        assert names.get_values_for_type(x509.DNSName) == [name]
        assert [one.value for one in shown.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)] == [role]


def test_a_scraper_reads_the_monitor_and_the_host_and_nothing_else(gate: str, identities: Path, exporter: Exporter) -> None:
    assert asked(gate, identities, "scraper", "/metrics")[0].startswith("200 OK ")
    said, _ = asked(gate, identities, "scraper", "/metrics/host")
    assert said == "200 OK node_memory_MemTotal_bytes 1"
    assert exporter.asked == ["/metrics"]
    for path in ("/v1/status", "/metrics/", "/metrics/hosts", "/metrics/host/", "/metrics%2fhost"):
        assert asked(gate, identities, "scraper", path)[0].startswith("403 "), path
    assert exporter.asked == ["/metrics"]


@pytest.mark.parametrize(("who", "code"), [("device", 403), ("metrics", 0), ("operator", 200)])
def test_who_else_comes_gets_what_its_certificate_says(
    gate: str, identities: Path, exporter: Exporter, who: str, code: int
) -> None:
    if not code:
        with pytest.raises(OSError, match=r"(?i)certificate|reset|broken pipe|eof"):  # what serves TLS opens no door
            asked(gate, identities, who, "/metrics/host")
    else:
        assert asked(gate, identities, who, "/metrics/host")[0].startswith(f"{code} ")
    assert len(exporter.asked) == (code == 200)


@pytest.mark.slow
def test_prometheus_elsewhere_reads_the_monitor_and_the_host_through_the_gate(
    gate: str, identities: Path, exporter: Exporter, programs: Programs, tmp_path: Path
) -> None:
    at = watching.free()
    elsewhere = {"observability_watcher": "watch", "observability_metrics_name": METRICS_NAME}
    watching.render(
        tmp_path,
        observability_identity=str(identities),
        observability_host="coordinator",
        observability_site="clinic",
        observability_monitor=f"{gate}:{layout.API_PORT}",
        observability_node_exporter_listen=watching.free(),
        observability_interval="200ms",
        **elsewhere,
    )
    with watching.prometheus(programs.prometheus, tmp_path, at) as prometheus:
        wait_for(lambda: prometheus.series("fl_journal_last_seq"), "the monitor's metrics")
        wait_for(lambda: prometheus.series('node_memory_MemTotal_bytes{host="coordinator", job="node"}'), "the host's")
        wait_for(lambda: prometheus.series('up{job="node", host="watch"} == 0'), "that there is nobody here")
        exporter.says = b"".join(b'node_of_nobodys{number="%d"} 1\n' % number for number in range(10_001))
        wait_for(lambda: prometheus.series('up{job="node", host="coordinator"} == 0'), "who tells too many is not believed")
        exporter.says = b"# of no use\n" * 400_000
        assert not prometheus.series("node_of_nobodys")
        last = f"timestamp(up{{job='node', host='coordinator'}}) > {time.time() + 1}"
        wait_for(lambda: prometheus.series(last), "who tells without end, too")
        assert prometheus.series('up{job="node", host="coordinator"} == 0')
