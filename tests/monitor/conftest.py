"""A coordinator as an operator meets it: the service in its own process, behind a real haproxy with real certificates."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.events.journal import Journal
from edgefl.infra.inventory import Host, Inventory

DEVICES = ["edge-01", "edge-02", "edge-03"]
DEVICE_ADDRESSES = ["127.0.1.1", "127.0.1.2", "127.0.1.2", "127.0.1.2"]
"""From where devices reach the gate: the last three are behind one address."""


def wait_for(claim: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Until the claim holds; fails with what it waited for."""
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.02)


def host_json(directory: Path) -> Path:
    path = directory / "host.json"
    coordinator = {"name": "coordinator", "address": "127.0.0.1"}
    said = {"site": "clinic", "name": "coordinator", "role": "coordinator", "coordinator": coordinator, "devices": DEVICES}
    path.write_text(json.dumps(said))
    return path


@dataclass
class Service:
    """The monitor's process; it can be killed and started again on the same journal."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "api.sock"

    @property
    def journal(self) -> Path:
        return self.directory / "journal.db"

    @property
    def models(self) -> Path:
        return self.directory / "models"

    def start(self) -> None:
        command = [sys.executable, "-m", "edgefl.monitor.service", "--socket", str(self.socket), "--journal", str(self.journal)]
        with (self.directory / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *command,
                    "--host",
                    str(self.directory / "host.json"),
                    "--fab",
                    str(self.directory / "app.fab"),
                    "--models",
                    str(self.models),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "EDGEFL_CONFIG": str(self.directory)},
            )
        wait_for(self.answers, f"the service; its log: {(self.directory / 'service.log').read_text()}")

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(self.socket))
            return True
        return False

    def end(self, *, kill: bool = False) -> int:
        if self.process is None:
            return 0
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        code = self.process.wait(60)
        self.process = None
        return code


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for a module's tests, since it takes seconds to start: whoever ends it starts it again."""
    directory = tmp_path_factory.mktemp("coordinator")
    host_json(directory)
    service = Service(directory)
    service.start()
    yield service
    service.end(kill=True)


@pytest.fixture
def journal(service: Service) -> Iterator[Journal]:
    """The ServerApp's hold on the journal that the service follows."""
    with Journal(service.journal) as journal:
        yield journal


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a site's real authority: `<name>.key`, `<name>.crt`, `<name>.pem` (both) and ca.crt, crl.pem."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from edgefl.pki.authority import Authority
    from edgefl.site.model import Site

    directory = tmp_path_factory.mktemp("identities")
    watched = {"prometheus": True, "host": {"name": "watch"}}
    site = Site.model_validate({"name": "clinic", "devices": [{"name": name} for name in DEVICES], "observability": watched})
    authority = Authority.open(directory / "state", site=site)
    stranger = Authority.open(directory / "strangers", site=site)
    revoked = ""
    for file, name, role, signer in (
        ("gate", "coordinator", "gate", authority),
        ("metrics", "coordinator", "metrics", authority),
        ("operator", "alice@desk", "operator", authority),
        ("revoked", "mallory@desk", "operator", authority),
        ("scraper", "prometheus", "scraper", authority),
        ("device", "edge-01", "device", authority),
        ("device2", "edge-02", "device", authority),
        ("stranger", "alice@desk", "operator", stranger),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        addresses = ["127.0.0.1"] if role == "gate" else []
        issued = signer.sign_csr(request.public_bytes(serialization.Encoding.PEM), name=name, role=role, addresses=addresses)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (directory / f"{file}.key").write_bytes(pem)
        (directory / f"{file}.crt").write_bytes(issued.chain)
        (directory / f"{file}.pem").write_bytes(pem + issued.chain)
        revoked = issued.serial if file == "revoked" else revoked
    authority.revoke(revoked, "lost laptop")
    (directory / "ca.crt").write_bytes(authority.bundle())
    (directory / "crl.pem").write_bytes(authority.crl())
    return directory


@pytest.fixture(scope="module")
def address() -> str:
    """A loopback address of the coordinator's own, on which the API's port is free."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}"


METRICS_NAME = "metrics.edgefl"
WATCHER_ADDRESS = "127.0.1.9"
"""By which a Prometheus on a host of its own asks for the gate."""


def gate_configuration(service: Service, identities: Path, address: str, *, watched: bool = False) -> str:
    """The coordinator role's own template, with its places moved to where the test has them, on this address.

    watched: whether a host of its own watches.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Path(__file__).parents[2] / "playbooks" / "roles" / "coordinator" / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    text = environment.get_template("haproxy.cfg.j2").render(
        coordinator_document={"coordinator": {"address": address}},
        coordinator_device_addresses=DEVICE_ADDRESSES,
        coordinator_fleet_port=layout.FLEET_PORT,
        coordinator_api_port=layout.API_PORT,
        coordinator_superlink_port=layout.SUPERLINK_PORT,
        coordinator_metrics_name=METRICS_NAME if watched else "",
        coordinator_watcher_address=WATCHER_ADDRESS,
        coordinator_exporter_port=layout.NODE_EXPORTER_PORT,
    )
    (service.directory / "revoked.acl").touch()
    names = (templates / "names.list.j2").read_text()
    assert "/etc/edgefl/identity/gate.pem [verify none]" in names
    (identities / "names.list").write_text(names.replace("/etc/edgefl/identity", str(identities)))
    listed = environment.get_template("metrics.list.j2").render(coordinator_metrics_name=METRICS_NAME)
    (identities / "metrics.list").write_text(listed.replace("/etc/edgefl/identity", str(identities)))
    for there, here in {
        "/etc/edgefl/gate/names.list": str(identities / "names.list"),
        **({"/etc/edgefl/gate/metrics.list": str(identities / "metrics.list")} if watched else {}),
        **({"server exporter 127.0.0.1:": f"server exporter {address}:"} if watched else {}),
        "bind :": f"bind {address}:",
        "/etc/edgefl/identity": str(identities),
        "/etc/edgefl/gate": str(service.directory),
        str(layout.MONITOR_SOCKET): str(service.socket),
    }.items():
        assert there in text, f"the gate's template has no {there} any more"
        text = text.replace(there, here)
    return text


@pytest.fixture(scope="module")
def gate(service: Service, identities: Path, address: str) -> Iterator[str]:
    """The coordinator's gate, a real haproxy, on the API's port of this address; watched where there is a certificate for it."""
    haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if haproxy is None:
        pytest.skip("haproxy is not installed")
    configuration = service.directory / "haproxy.cfg"
    configuration.write_text(gate_configuration(service, identities, address, watched=(identities / "metrics.pem").exists()))
    log = (service.directory / "haproxy.log").open("wb")
    process = subprocess.Popen([haproxy, "-db", "-f", str(configuration)], stdout=log, stderr=log)

    def listens() -> bool:
        assert process.poll() is None, (service.directory / "haproxy.log").read_text()
        with suppress(OSError), socket.create_connection((address, layout.API_PORT), 1):
            return True
        return False

    try:
        wait_for(listens, "haproxy")
        yield address
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def _tool(name: str) -> str:
    """A program of Prometheus', installed or where tools/test-packages unpacked it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{sys.prefix}/prometheus/usr/bin")
    if found is None:
        pytest.skip(f"{name} is not here (tools/test-packages)")
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    return _tool("promtool")


@dataclass(frozen=True)
class Programs:
    """Where Prometheus' programs are."""

    prometheus: str
    alertmanager: str
    amtool: str
    node_exporter: str


@pytest.fixture(scope="session")
def programs() -> Programs:
    if not Path("/usr/share/prometheus/alertmanager/default.tmpl").exists():
        pytest.skip("Alertmanager's templates are not here (tools/test-packages, as root)")
    return Programs(*map(_tool, ("prometheus", "prometheus-alertmanager", "amtool", "prometheus-node-exporter")))


@pytest.fixture
def as_operator(tmp_path: Path, identities: Path) -> Callable[[str], Path]:
    """Makes an operator's `.edgefl`, as pki leaves it, with one of the identities."""

    def make(who: str) -> Path:
        state = tmp_path / ".edgefl" / who
        directory = state / "operator"
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(identities / f"{who}.key", directory / "operator.key")
        shutil.copy(identities / f"{who}.crt", directory / "operator.crt")
        shutil.copy(identities / "ca.crt", directory / "ca.crt")
        return state

    return make


@pytest.fixture
def state_dir(as_operator: Callable[[str], Path]) -> Path:
    return as_operator("operator")


@pytest.fixture
def inventory(address: str) -> Inventory:
    return Inventory((Host("coordinator", "coordinator", address, 22, "root"),))


@pytest.fixture
def site(tmp_path: Path, identities: Path, address: str, gate: str) -> Path:
    """A provisioned site of which the coordinator is this machine."""
    devices = "\n".join(f"  - {{name: edge-0{n}, address: 10.77.0.1{n}}}" for n in (1, 2, 3))
    text = f"name: clinic\ninfrastructure: {{module: static}}\ncoordinator: {{address: {address}}}\ndevices:\n{devices}\n"
    (tmp_path / "site.yaml").write_text(text + "isolation: {operator_addresses: [10.77.0.1]}\n")
    state = tmp_path / ".edgefl"
    shutil.copytree(identities / "state" / "pki", state / "pki")
    hosts = (Host("coordinator", "coordinator", address, 22, "root"), Host("edge-01", "device", "10.77.0.11", 22, "root"))
    Inventory(hosts).save(state / "inventory.json")
    return tmp_path
