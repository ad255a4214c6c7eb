"""A host renews its own certificates; a timer runs it. `python -m edgefl.pki.renew ask`, then `… install`.

`ask` runs as the account that may reach the coordinator: where a certificate is due it makes another key, has the coordinator
certify it, and leaves both in a directory of its own, in memory. `install` runs as root without any network: it puts them in
place once they are what they must be, the certificate first; what a power failure cut short there, the next turn finishes.
Services read renewed certificates by themselves; the gate is told.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from edgefl.errors import EdgeflError
from edgefl.pki import forms, pairs, request
from edgefl.pki.anchors import subject
from edgefl.pki.errors import CertificateRefused, PkiError
from edgefl.pki.lifetime import renewal
from edgefl.pki.pairs import Key
from edgefl.voice import to_stderr

PATH = "/v1/renew"
"""Where the coordinator renews."""
NOW_VARIABLE = "EDGEFL_RENEW"
"""Environment variable: `now` renews what is not due yet."""
_TIMEOUT_S = 30.0
_LONGEST = 1 << 16


class _Socket(http.client.HTTPConnection):
    """HTTP over the monitor's own socket, for the host that the monitor runs on."""

    def __init__(self, path: Path) -> None:
        super().__init__("coordinator", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def ask(keys: Sequence[Key], identity: Path, into: Path, coordinator: str, *, at_once: bool = False) -> list[str]:
    """Have every certificate that is due renewed; the roles that were.

    into: gets `<role>.key` and `<role>.crt`. coordinator: `address:port` of the gate, or the path of the monitor's socket. Raises
    PkiError when the coordinator refuses or does not answer.
    """
    renewed = []
    for key in keys:
        current = pairs.certificate(identity / f"{key.role}.crt")
        now = datetime.now(UTC)
        if now < renewal(current) and not at_once:
            continue
        name = subject(current)[0]
        if now >= current.not_valid_after_utc:
            ended = f"the {key.role}'s certificate ended at {current.not_valid_after_utc:%Y-%m-%d %H:%M} UTC and opens nothing"
            raise PkiError(f"{ended}: the operator alone can renew it now", hint=f"edgefl certs rotate {name}")
        fresh = ec.generate_private_key(ec.SECP256R1())
        csr = request.make(fresh, name)
        chain = _asked(key, identity, current, csr, coordinator)
        for ending, content in (("key", pairs.private_pem(fresh)), ("crt", chain)):
            with os.fdopen(os.open(into / f"{key.role}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
        renewed.append(key.role)
    return renewed


def install(keys: Sequence[Key], identity: Path, source: Path, reload: str = "") -> list[str]:
    """Put in place what `ask` left in `source`; the roles whose certificate changed.

    reload: the unit that must be told of a joined file. Raises CertificateRefused for what is not this host's own, and then
    nothing of it is put in place.
    """
    installed = []
    with pairs.alone(identity):
        for key in keys:
            pairs.settle(identity / key.role)
            pair = [_read(source / f"{key.role}.{ending}") for ending in ("key", "crt")]
            if all(pair):
                _check(pair[0], pair[1], identity, key.role)
                pairs.place(identity / key.role, key, pair[0], pair[1])
                installed.append(key.role)
    if reload and any(key.joined for key in keys if key.role in installed):
        subprocess.run(["systemctl", "reload", reload], check=True)  # a unit of ours, by systemd's own PATH
    return installed


def _asked(key: Key, identity: Path, current: x509.Certificate, csr: bytes, coordinator: str) -> bytes:
    """The chain that the coordinator answers a request with."""
    headers = {"Content-Type": "application/json"}
    try:
        if coordinator.startswith("/"):
            name, role, _ = subject(current)
            der = base64.b64encode(current.public_bytes(Encoding.DER)).decode()
            headers |= {"X-Edgefl-Name": name, "X-Edgefl-Role": role, "X-Edgefl-Certificate": der}
            connection: http.client.HTTPConnection = _Socket(Path(coordinator))
        else:
            context = ssl.create_default_context(cafile=str(identity / "ca.crt"))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(identity / f"{key.role}.crt", identity / f"{key.role}.key")
            host, _, port = coordinator.rpartition(":")
            connection = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_S, context=context)
        connection.request("POST", PATH, json.dumps({"csr": csr.decode()}), headers)
        answer = connection.getresponse()
        said = answer.read(_LONGEST)
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise PkiError(f"the coordinator does not answer: {error}", hint="it is asked again at the timer's next turn") from error
    if answer.status != 200:
        raise PkiError(f"the coordinator refuses to renew the {key.role}'s certificate: {_reason(answer.status, said)}")
    return str(json.loads(said)["chain"]).encode()


def _reason(status: int, said: bytes) -> str:
    try:
        told: Any = json.loads(said)
        return str(told["what"])
    except (ValueError, KeyError, TypeError):
        return f"the gate answered {status}"


def _check(private: bytes, chain: bytes, identity: Path, role: str) -> None:
    """Raise CertificateRefused unless this is a successor of the host's certificate, by the site's own authorities."""
    current = pairs.certificate(identity / f"{role}.crt")
    leaf = pairs.verified(private, chain, identity, role)
    if leaf.subject != current.subject or forms.alternatives(leaf) != forms.alternatives(current):
        raise CertificateRefused(f"what came as the {role}'s certificate is in another name, or for other addresses")
    if leaf.not_valid_after_utc < current.not_valid_after_utc:
        raise CertificateRefused(f"what came as the {role}'s certificate ends before the one that it has")


def _read(path: Path) -> bytes:
    """A file that another account left; empty where there is none. No link is followed: root reads it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LONGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def main(argv: list[str] | None = None) -> int:
    """One of the two halves; its exit status."""
    parser = argparse.ArgumentParser(prog="edgefl-renewal", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("step", choices=["ask", "install"])
    parser.add_argument("--key", action="append", type=Key.of, required=True, metavar="ROLE:ACCOUNT[:joined]")
    parser.add_argument("--identity", type=Path, default=Path("/etc/edgefl/identity"))
    parser.add_argument("--between", type=Path, default=Path("/run/edgefl-renewal"), help="from one half to the other")
    parser.add_argument("--coordinator", default="", help="ask: address:port of the gate, or the monitor's socket")
    parser.add_argument("--reload", default="", metavar="UNIT", help="install: the unit that is told")
    options = parser.parse_args(argv)
    log = to_stderr()
    try:
        if options.step == "install":
            done = install(options.key, options.identity, options.between, options.reload)
        else:
            at_once = os.environ.get(NOW_VARIABLE) == "now"
            done = ask(options.key, options.identity, options.between, options.coordinator, at_once=at_once)
    except EdgeflError as error:
        log.error("\n".join(error.lines()))  # it is a word to the operator, who has no use for the stack
        return 1
    for role in done:
        log.info("the %s's certificate is %s", role, "renewed" if options.step == "ask" else "in use")
    return 0


if __name__ == "__main__":
    sys.exit(main())
