"""A coordinator for benchmarks, on a loopback address of its own: the monitor in its process, a real gate, real certificates."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgefl import layout
from edgefl.infra.inventory import Host, Inventory
from edgefl.pki.authority import Authority
from edgefl.pki.profiles import Role
from edgefl.site.model import Site

_TEMPLATES = Path(__file__).parents[1] / "playbooks" / "roles" / "coordinator" / "templates"
_STARTS_WITHIN_S = 120.0
"""A monitor folds its whole journal before it answers."""


@contextmanager
def coordinator(directory: Path, devices: Sequence[str]) -> Iterator[None]:
    """Serve `directory/journal.db` until the end; `directory/.edgefl` is then an operator's, as `edgefl up` leaves it.

    Ends this process with a word where haproxy is missing.
    """
    haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if haproxy is None:
        sys.exit("haproxy is missing: tools/test-packages installs it")
    address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])
    _certify(directory)
    Inventory((Host("coordinator", "coordinator", address, 22, "root"),)).save(directory / ".edgefl" / "inventory.json")
    host = {"site": "clinic", "name": "coordinator", "role": "coordinator", "devices": list(devices)}
    (directory / "host.json").write_text(json.dumps({**host, "coordinator": {"name": "coordinator", "address": address}}))
    (directory / "haproxy.cfg").write_text(_gate(directory, address))
    with ExitStack() as running:
        options = {"socket": "api.sock", "journal": "journal.db", "host": "host.json", "fab": "app.fab", "models": "models"}
        places = [word for option, file in options.items() for word in (f"--{option}", str(directory / file))]
        running.enter_context(_process([sys.executable, "-m", "edgefl.monitor.service", *places], directory / "monitor.log"))
        _until(lambda: _listens(socket.AF_UNIX, str(directory / "api.sock")), "the monitor")
        running.enter_context(_process([haproxy, "-db", "-f", str(directory / "haproxy.cfg")], directory / "haproxy.log"))
        _until(lambda: _listens(socket.AF_INET, (address, layout.API_PORT)), "the gate")
        yield


def _certify(directory: Path) -> None:
    """The gate's identity and the operator's, from a real authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    site = Site.model_validate({"name": "clinic", "devices": [{"name": "edge-01"}]})
    authority = Authority.open(directory / ".edgefl", site=site)
    own = directory / ".edgefl" / "operator"
    own.mkdir(parents=True)
    callers: tuple[tuple[str, Role, Path], ...] = (
        ("coordinator", "gate", directory / "gate"),
        ("alice@desk", "operator", own / "operator"),
    )
    for name, role, stem in callers:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        pem = request.public_bytes(serialization.Encoding.PEM)
        addresses = ["127.0.0.1"] if role == "gate" else []
        chain = authority.sign_csr(pem, name=name, role=role, addresses=addresses).chain
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for ending, content in (("key", secret), ("crt", chain), ("pem", secret + chain)):
            stem.with_suffix(f".{ending}").write_bytes(content)
    for place in (directory, own):
        (place / "ca.crt").write_bytes(authority.bundle())
    (directory / "crl.pem").write_bytes(authority.crl())


def _gate(directory: Path, address: str) -> str:
    """The coordinator role's own template, with its places moved into `directory`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    text = environment.get_template("haproxy.cfg.j2").render(
        coordinator_document={"coordinator": {"address": address}},
        coordinator_device_addresses=[],
        coordinator_fleet_port=layout.FLEET_PORT,
        coordinator_api_port=layout.API_PORT,
        coordinator_metrics_name="",
        coordinator_superlink_port=layout.SUPERLINK_PORT,
    )
    (directory / "revoked.acl").touch()
    names = (_TEMPLATES / "names.list.j2").read_text()
    (directory / "names.list").write_text(names.replace("/etc/edgefl/identity", str(directory)))
    moved = {"bind :": f"bind {address}:", str(layout.MONITOR_SOCKET): str(directory / "api.sock")}
    for there in ("/etc/edgefl/identity", "/etc/edgefl/gate"):
        moved[there] = str(directory)
    for there, here in moved.items():
        text = text.replace(there, here)
    return text


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _listens(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe, suppress(OSError):
        probe.connect(address)
        return True
    return False


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not begin to answer within {_STARTS_WITHIN_S:.0f} s")
        time.sleep(0.05)
