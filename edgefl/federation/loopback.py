"""A whole federation as plain processes of this machine, on loopback addresses: every service is the real one, only the hosts are
folders.

For developing a task, for tests and for benchmarks; it needs no root. What only hosts give (users, firewalls, systemd) is
the lab's to show. Not imported by any service.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from edgefl.errors import EdgeflError
from edgefl.events.journal import Journal
from edgefl.federation.flower.control import Control, ControlFailed, FlowerRun, Value
from edgefl.federation.flower.register import apply
from edgefl.federation.hostconfig import Places
from edgefl.federation.ports import reserve_port
from edgefl.fleet import fab, rendering
from edgefl.infra.inventory import Host, Inventory
from edgefl.pki.authority import Authority
from edgefl.site.model import Site

LINK, SERVER, GATE = "superlink", "superexec", "gate"
START_S = 180.0
"""How long a service may take to start; imports on a busy machine are slow."""


class LoopbackFailed(EdgeflError):
    """A service did not start, or ended; its log's end is in the text."""


@dataclass(frozen=True, slots=True)
class _Release:
    """What the rendering asks of a bundle."""

    path: Path
    fab_sha256: str
    deps_hashes: Mapping[str, str] = field(default_factory=dict)
    app_hash: str = ""


@dataclass(slots=True)
class Loopback:
    """The federation of a site in a folder. data: each device's records. environment: more variables, by device.

    use_gate: haproxy with mutual TLS between the devices and the SuperLink, as on a real coordinator; without it the devices
    reach the SuperLink itself.
    """

    root: Path
    site: Site
    data: Mapping[str, Path]
    use_gate: bool = False
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    held: ExitStack = field(default_factory=ExitStack, repr=False)
    """The ports, for as long as it runs."""

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start_coordinator()
            self.register()
            for device in self.devices:
                self.start_device(device)
            self.wait_until("every device is online", lambda: len(self.online()) == len(self.devices))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def devices(self) -> list[str]:
        """The devices' names."""
        return [device.name for device in self.site.devices]

    def places(self, host: str) -> Places:
        """Where one host's services find and keep things."""
        return Places(self.root / host / "etc", self.root / host / "var")

    def journal(self) -> Journal:
        """The coordinator's event log."""
        return Journal(self.places("coordinator").journal)

    # ── Preparing ──

    def prepare(self) -> None:
        """Render, certify and give keys to every host, as `edgefl up` does over SSH."""
        packed = fab.pack(self.site)
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "app.fab").write_bytes(packed.content)
        inventory = Inventory(tuple(
            Host(host.name, "coordinator" if host is self.site.coordinator else "device", "127.0.0.1", 22, "nobody")
            for host in self.site.hosts
        ))  # fmt: skip
        authority = Authority.open(self.root / "operator", site=self.site)
        for host in inventory.hosts:
            name = "coordinator" if host.role == "coordinator" else host.name
            document = rendering.host_document(self.site, host, inventory, _Release(self.root, packed.sha256))
            if host.role == "device":
                document["data"] = str(self.data[host.name])
            self._prepare_host(name, host, document, authority)
        for service in (LINK, GATE, *self.devices):
            self.ports[service] = reserve_port(self.held)

    def _prepare_host(self, name: str, host: Host, document: Mapping[str, Any], authority: Authority) -> None:
        places = self.places(name)
        places.identity.mkdir(parents=True, exist_ok=True)
        for directory in (places.journal.parent, places.models, places.ledger.parent):
            directory.mkdir(parents=True, exist_ok=True)
        places.host.write_text(json_text(document))
        places.secret.write_bytes(os.urandom(32).hex().encode())
        places.authority.write_bytes(authority.bundle())
        (places.identity / "crl.pem").write_bytes(authority.crl())
        places.members.write_text(json_text(rendering.members_document(self.site, host.role)))
        if host.role == "coordinator":
            certify(places.identity, "superlink", "superlink", host.name, authority)
            certify(places.identity, "gate", "gate", host.name, authority, "127.0.0.1")
            pem = b"".join((places.identity / f"gate.{end}").read_bytes() for end in ("key", "crt"))
            (places.identity / "gate.pem").write_bytes(pem)
        else:
            certify(places.identity, "device", "device", host.name, authority)
            node_key(places.identity / "node.key")
            places.signing.mkdir()
            certify(places.signing, "signer", "signer", host.name, authority)
            for public in ("ca.crt", "crl.pem"):
                (places.signing / public).write_bytes((places.identity / public).read_bytes())

    # ── Services ──

    def start_coordinator(self) -> None:
        """SuperLink, its SuperExec, and the gate."""
        self.start_superlink()
        self._start_service("coordinator", SERVER, "superexec", "--role", "server", "--port", str(self.ports[LINK]))
        if self.use_gate:
            self._start_gate()

    def start_superlink(self) -> None:
        """Start the SuperLink and wait until it answers."""
        self._start_service("coordinator", LINK, "superlink", "--port", str(self.ports[LINK]))
        self.wait_until("the SuperLink answers", self._answers)

    def start_device(self, device: str) -> None:
        """SuperNode and SuperExec of a device."""
        port = str(self.ports[device])
        gate = f"127.0.0.1:{self.ports[GATE]}" if self.use_gate else f"localhost:{self.ports[LINK]}"
        self._start_service(device, f"{device}/supernode", "supernode", "--coordinator", gate, "--port", port)
        self._start_service(device, f"{device}/superexec", "superexec", "--role", "device", "--port", port)

    def register(self) -> bool:
        """Register the devices' keys; whether that changed anything."""
        keys = {device: (self.places(device).identity / "node.pub").read_text() for device in self.devices}
        with self.control() as control:
            return apply(control, keys, self.places("coordinator").nodes)

    def control(self) -> Control:
        """The coordinator's hand on the SuperLink."""
        return Control(self.places("coordinator"), port=self.ports[LINK])

    def online(self) -> list[str]:
        """The devices that the SuperLink counts as online."""
        with self.control() as control:
            return [node.name for node in control.nodes() if node.state == "online"]

    def kill(self, service: str, how: int = signal.SIGKILL) -> None:
        """End one service, by default without warning, and wait until it is gone."""
        process = self.processes.pop(service)
        process.send_signal(how)
        process.wait(30)

    def stop(self) -> None:
        """End everything; what does not end when asked is killed."""
        for process in self.processes.values():
            process.terminate()
        end = time.monotonic() + 10
        for process in self.processes.values():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        self.held.close()

    # ── Runs ──

    def start_run(self, **config: Value) -> int:
        """Start a run of the site's app; returns Flower's run id."""
        with self.control() as control:
            return control.start_run(self.root / "app.fab", config)

    def finish(self, run: int, limit_s: float = 900.0) -> FlowerRun:
        """Wait for a run to end."""
        with self.control() as control:
            self.wait_until(f"run {run} is over", lambda: control.run(run).state == "finished", limit_s, 0.3)
            return control.run(run)

    def events(self, run: int) -> list[dict[str, Any]]:
        """The journal's events of a run."""
        with self.journal() as journal:
            return list(journal.records(run=str(run)))

    def wait_until(self, what: str, holds: Callable[[], bool], limit_s: float = START_S, poll_s: float = 0.2) -> None:
        """Wait for a condition; LoopbackFailed with the logs' ends when it does not come, or when a service ended meanwhile."""
        end = time.monotonic() + limit_s
        while not holds():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > end:
                why = f"{ended[0]} ended" if ended else f"not so within {limit_s:g} s"
                raise LoopbackFailed(f"waited until {what}: {why}\n{self.tails(ended or list(self.processes))}")
            time.sleep(poll_s)

    def log(self, service: str) -> str:
        """What a service has said so far."""
        return self._log_path(service).read_text(errors="replace")

    def tails(self, services: list[str], lines: int = 15) -> str:
        """The ends of these services' logs."""
        return "\n".join(f"── {service}\n" + "\n".join(self.log(service).splitlines()[-lines:]) for service in services)

    def _answers(self) -> bool:
        try:
            self.online()
        except ControlFailed:
            return False
        return True

    def _log_path(self, service: str) -> Path:
        return self.root / "log" / (service.replace("/", "-") + ".log")

    def _open_log(self, service: str) -> IO[bytes]:
        self._log_path(service).parent.mkdir(exist_ok=True)
        return self._log_path(service).open("ab")

    def _start_service(self, host: str, service: str, module: str, *arguments: str) -> None:
        places = self.places(host)
        command = [
            sys.executable,
            "-m",
            f"edgefl.federation.flower.{module}",
            "--config",
            str(places.config),
            "--state",
            str(places.state),
        ]
        environment = {**os.environ, **self.environment.get(host, {})}
        with self._open_log(service) as log:
            self.processes[service] = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, env=environment)

    def _start_gate(self) -> None:
        haproxy = shutil.which("haproxy")
        if haproxy is None:
            raise LoopbackFailed("haproxy is not installed", hint="apt-get install haproxy")
        configuration = self.root / "gate.cfg"
        configuration.write_text(gate_configuration(self.places("coordinator").identity, self.ports[GATE], self.ports[LINK]))
        with self._open_log(GATE) as log:
            self.processes[GATE] = subprocess.Popen([haproxy, "-db", "-f", str(configuration)], stdout=log, stderr=log)


def gate_configuration(identity: Path, port: int, superlink: int) -> str:
    """The fleet half of the coordinator's gate: mutual TLS, devices only, the Fleet API only."""
    return f"""\
global
  log stdout format raw local0 info
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 90s
frontend fleet
  bind 127.0.0.1:{port} ssl crt {identity}/gate.pem ca-file {identity}/ca.crt crl-file {identity}/crl.pem verify required
  http-request deny deny_status 403 unless {{ ssl_c_s_dn(ou) device }}
  http-request deny deny_status 404 unless {{ path_beg /v1/fleet/ }}
  default_backend superlink
backend superlink
  server superlink 127.0.0.1:{superlink} ssl verify required ca-file {identity}/ca.crt sni str(localhost) verifyhost localhost
"""


def certify(identity: Path, stem: str, role: Any, name: str, authority: Authority, *addresses: str) -> None:
    """A key of this host's own and a certificate for it: `<stem>.key`, `<stem>.crt`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    issued = authority.sign_csr(request.public_bytes(serialization.Encoding.PEM), name=name, role=role, addresses=addresses)
    path = identity / f"{stem}.key"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.chmod(0o600)
    (identity / f"{stem}.crt").write_bytes(issued.chain)


def node_key(path: Path) -> None:
    """A SuperNode's key pair as OpenSSH files: `node.key`, `node.pub`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    path.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b"\n")


def json_text(document: Mapping[str, Any]) -> str:
    """As the roles write host.json."""
    import json

    return json.dumps(document, indent=2) + "\n"


def descendants(pid: int) -> Iterator[int]:
    """Every living process below a process, nearest first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended between opening and reading
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)
