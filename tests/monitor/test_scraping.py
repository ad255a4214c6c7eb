"""Who reads what over mutual TLS: real programs, configured by the role's own templates, with a real authority's certificates."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from edgefl.pki.authority import Authority
from edgefl.pki.profiles import Role
from edgefl.pki.renewal import RenewalAuthority
from edgefl.site.model import Site
from tests.monitor import watching
from tests.monitor.certified import csr, made, private
from tests.monitor.conftest import Programs, wait_for

pytestmark = pytest.mark.slow

SITE = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}, {"name": "edge-02"}]})
REFUSED = r"(?i)certificate|broken pipe|reset|closes"
PEM_ENDS = b"-----END CERTIFICATE-----\n"


class Identities:
    """Keys and certificates of a site's hosts, in one directory, as the role `identity` lays them down."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.authority = directory, Authority.open(directory / "state", site=SITE)
        (directory / "ca.crt").write_bytes(self.authority.bundle())

    def issue(self, stem: str, name: str, role: Role, *addresses: str) -> None:
        """Another key and certificate, in place of those that are there."""
        key = made()
        chain = self.authority.sign_csr(csr(name, key).encode(), name=name, role=role, addresses=addresses).chain
        self.put(stem, private(key), chain)

    def put(self, stem: str, key: bytes, chain: bytes) -> None:
        (self.directory / f"{stem}.key").write_bytes(key)
        (self.directory / f"{stem}.crt").write_bytes(chain)

    def pin(self) -> None:
        """What a device is given of Prometheus' certificate: the certificate alone."""
        chain = (self.directory / "scraper.crt").read_bytes()
        (self.directory / "reader.crt").write_bytes(chain.split(PEM_ENDS)[0] + PEM_ENDS)

    def renewed_gate(self) -> None:
        """The gate's certificate, as the coordinator's own authority renews it while no operator is there."""
        place = self.directory / "renewal"
        place.mkdir()
        key = made()
        (place / "renewal.key").write_bytes(private(key))
        (place / "renewal.crt").write_bytes(self.authority.sign_renewal(csr("coordinator", key).encode(), name="coordinator"))
        renewal = RenewalAuthority.load(place, self.directory / "ca.crt")
        current = x509.load_pem_x509_certificates((self.directory / "gate.crt").read_bytes())[0]
        key = made()
        self.put("gate", private(key), renewal.renew(current, csr("coordinator", key).encode(), used=()).chain)


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    found = Identities(tmp_path)
    found.issue("gate", "coordinator", "gate", "127.0.0.1")
    found.issue("scraper", "prometheus", "scraper")
    found.issue("exporter", "edge-01", "exporter", "127.0.0.1")
    found.pin()
    return found


def render(identities: Identities, **variables: object) -> None:
    own = str(identities.directory)
    about = {"observability_identity": own, "observability_host": "coordinator", "observability_site": "clinic"}
    reads = {"observability_interval": "200ms", "observability_reader": f"{own}/reader.crt"}
    watching.render(identities.directory, **about, **reads, **variables)


@contextmanager
def exporter(programs: Programs, directory: Path, at: str, configuration: str = "exporter.yml") -> Iterator[None]:
    web = [f"--web.listen-address={at}", f"--web.config.file={directory / configuration}"]
    command = [programs.node_exporter, *web, "--collector.disable-defaults", "--collector.meminfo"]
    with watching.running(command, directory / f"{at}.log", at, None):
        yield


def shown(identities: Identities, at: str, stem: str | None) -> bytes:
    """The certificate that the device shows to whoever shows it `stem`'s and reads a page. Raises OSError where it is refused."""
    context = ssl.create_default_context(cafile=str(identities.directory / "ca.crt"))
    if stem is not None:
        context.load_cert_chain(identities.directory / f"{stem}.crt", identities.directory / f"{stem}.key")
    host, _, port = at.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        secure.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        if not secure.recv(4096).startswith(b"HTTP/1.0 200"):
            raise ConnectionRefusedError("it closes without an answer")
        return secure.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize(
    ("name", "role"),
    [("alice@desk", "operator"), ("edge-02", "device"), ("other", "scraper"), ("prometheus", "scraper")],
)
def test_a_device_answers_the_one_certificate_of_its_prometheus_and_no_other(
    identities: Identities, programs: Programs, name: str, role: str
) -> None:
    at = watching.free()
    render(identities)
    identities.issue("another", name, role)
    with exporter(programs, identities.directory, at):
        assert shown(identities, at, "scraper")
        for stem in ("another", None):
            with pytest.raises(OSError, match=REFUSED):
                shown(identities, at, stem)


def test_what_is_renewed_on_either_side_serves_at_the_next_handshake(identities: Identities, programs: Programs) -> None:
    at, asked_at = watching.free(), watching.free()
    render(identities, observability_devices={"edge-01": at}, observability_node_exporter_listen=watching.free())
    there = 'node_memory_MemTotal_bytes{host="edge-01", site="clinic", job="devices"}'
    reads = 'up{job="devices"}'
    with watching.prometheus(programs.prometheus, identities.directory, asked_at) as asked:
        with exporter(programs, identities.directory, at):
            wait_for(lambda: asked.series(there), "the device's metrics")
            before = shown(identities, at, "scraper")
            identities.issue("exporter", "edge-01", "exporter", "127.0.0.1")
            identities.issue("scraper", "prometheus", "scraper")
            with pytest.raises(OSError, match=REFUSED):
                shown(identities, at, "scraper")  # the device does not know it yet
            identities.pin()
            assert shown(identities, at, "scraper") != before
        wait_for(lambda: asked.series(f"{reads} == 0"), "the end of the connection that stood")
        with exporter(programs, identities.directory, at):
            wait_for(lambda: asked.series(f"{reads} == 1"), "the device's metrics by the renewed pair")


def test_prometheus_takes_another_device_at_its_address_for_nobody(identities: Identities, programs: Programs) -> None:
    at, asked_at = watching.free(), watching.free()
    render(identities, observability_devices={"edge-01": at}, observability_node_exporter_listen=watching.free())
    identities.issue("exporter", "edge-02", "exporter", "10.77.0.12")
    with (
        exporter(programs, identities.directory, at),
        watching.prometheus(programs.prometheus, identities.directory, asked_at) as asked,
    ):

        def refused() -> bool:
            targets = [one for one in asked.ask("targets")["activeTargets"] if one["labels"]["job"] == "devices"]
            return [(one["health"], "not 127.0.0.1" in one["lastError"]) for one in targets] == [("down", True)]

        wait_for(refused, "the refusal of another device's certificate")
        assert not asked.series('up{job="devices"} == 1')


def test_the_gate_is_known_by_the_certificate_that_the_coordinator_renewed_itself(
    identities: Identities, programs: Programs
) -> None:
    at, asked_at = watching.free(), watching.free()
    render(identities, observability_monitor=at, observability_node_exporter_listen=watching.free())
    served = {"exporter.crt": "gate.crt", "exporter.key": "gate.key"}  # what answers here speaks TLS by the gate's own pair
    text = (identities.directory / "exporter.yml").read_text()
    for there, here in served.items():
        text = text.replace(there, here)
    (identities.directory / "gate.yml").write_text(text)
    reads = 'up{job="edgefl"}'
    with watching.prometheus(programs.prometheus, identities.directory, asked_at) as asked:
        with exporter(programs, identities.directory, at, "gate.yml"):
            wait_for(lambda: asked.series(f"{reads} == 1"), "the gate by the operator's authority")
        wait_for(lambda: asked.series(f"{reads} == 0"), "the end of the connection that stood")
        identities.renewed_gate()
        with exporter(programs, identities.directory, at, "gate.yml"):
            wait_for(lambda: asked.series(f"{reads} == 1"), "the gate by the renewal authority")
