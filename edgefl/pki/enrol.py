"""A device gets its certificate by a token, or by files that somebody carries: `edgefl-enrol`, run as root on the device.

Without a word it asks for the token, makes a key, and has the coordinator certify it. `edgefl-enrol request FILE` writes a
request for the operator to sign (`edgefl enrol sign`), `edgefl-enrol install FILE` takes what came back. The key never leaves the
device; what was cut short goes on with the same key. Whoever speaks to the coordinator is the account that the walls let there,
and it gets the request and the token alone: root, which has the key, speaks to nobody.
"""

from __future__ import annotations

import argparse
import getpass
import http.client
import json
import os
import pwd
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import create_connection
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode, NeedsRoot
from edgefl.pki import forms, pairs, request, tokens
from edgefl.pki.anchors import subject
from edgefl.pki.errors import CertificateRefused, PkiError
from edgefl.pki.pairs import Key

PATH = "/v1/enrol"
"""Where the coordinator enrols."""
GATE_NAME = "enrolment.edgefl"
"""By this name (RFC 6066, SNI) the gate is asked by a device that has no certificate to show."""
ROLE = "device"
_WAITING = ".key.enrolling"
_TIMEOUT_S = 30.0
_LONGEST = 1 << 16


class CoordinatorSilent(PkiError):
    """The coordinator does not answer, or what answers is not it."""

    exit_code = ExitCode.MONITOR_UNREACHABLE


class CarriedInVain(PkiError):
    """A file that is carried cannot be read or written, or no key waits for what it brings."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Device:
    """The device that this runs on, as its host.json knows it. config: /etc/edgefl.

    account: who owns its key, and may reach the coordinator.
    """

    config: Path
    name: str
    site: str
    address: str
    port: int
    account: str

    @classmethod
    def load(cls, config: Path, account: str) -> Device:
        """Raises PkiError where this is no device that `edgefl up` has seen."""
        try:
            said: dict[str, Any] = json.loads((config / "host.json").read_bytes())
            known = str(said["name"]), str(said["site"]), str(said["coordinator"]["address"])
            port, role = int(said["coordinator"].get("port", layout.FLEET_PORT)), said["role"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PkiError(f"{config / 'host.json'} does not say whose device this is: {error}", hint="edgefl up") from error
        if role != ROLE:
            raise PkiError(f"this is the {role} of {known[1]}: tokens are for devices", hint=f"edgefl certs rotate {known[0]}")
        return cls(config, *known, port, account)

    @property
    def identity(self) -> Path:
        """Where its key and certificate lie."""
        return self.config / layout.IDENTITY.relative_to(layout.CONFIG)

    def key(self, *, anew: bool = False) -> ec.EllipticCurvePrivateKey:
        """The key that waits for a certificate, made when there is none. anew: one that waits is given up."""
        path = self.identity / f"{ROLE}{_WAITING}"
        with pairs.alone(self.identity):
            if anew or not path.exists():
                fresh = ec.generate_private_key(ec.SECP256R1())
                pairs.write(path, pairs.private_pem(fresh), pwd.getpwuid(os.geteuid()), 0o600)
            private = path.read_bytes()
        try:
            key = serialization.load_pem_private_key(private, None)
        except ValueError as error:
            raise PkiError(f"{path} is no key any more: {error}", hint=f"{layout.ENROL} --new-key") from error
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  # it was made above
        return key

    def install(self, chain: bytes) -> x509.Certificate:
        """Put the certificate in place, with the key that waits for it. Raises CertificateRefused, and CarriedInVain.

        A second time it changes nothing.
        """
        stem, waiting = self.identity / ROLE, self.identity / f"{ROLE}{_WAITING}"
        with pairs.alone(self.identity):
            pairs.settle(stem)
            if not waiting.exists():
                return self._there(stem, chain)
            private = waiting.read_bytes()
            leaf = pairs.verified(private, chain, self.identity, ROLE)
            if subject(leaf) != (self.name, ROLE, self.site) or x509.DNSName(self.name) not in forms.alternatives(leaf):
                raise CertificateRefused(f"what came is the certificate of {subject(leaf)[0]}, not {self.name}'s")
            if datetime.now(UTC) >= leaf.not_valid_after_utc:
                ended = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
                raise CertificateRefused(f"what came ended at {ended}", hint=f"{layout.ENROL} request --new-key FILE")
            pairs.place(stem, Key(ROLE, self.account), private, chain)
            waiting.unlink()
            return leaf

    def _there(self, stem: Path, chain: bytes) -> x509.Certificate:
        """The certificate that is in place, where it is the one that came."""
        there = stem.with_suffix(".crt")
        if not there.exists() or there.read_bytes() != chain:
            raise CarriedInVain("no key waits for a certificate here", hint=f"{layout.ENROL} request FILE")
        return pairs.certificate(there)


class _Connection(http.client.HTTPSConnection):
    """To the gate, by the name for those without a certificate; it must be this site's gate, at the coordinator's own address."""

    def __init__(self, device: Device, context: ssl.SSLContext) -> None:
        super().__init__(device.address.strip("[]"), device.port, timeout=_TIMEOUT_S, context=context)
        self._device, self._context = device, context

    def connect(self) -> None:
        plain = create_connection((self.host, self.port), _TIMEOUT_S)
        self.sock = self._context.wrap_socket(plain, server_hostname=GATE_NAME)
        shown = x509.load_der_x509_certificate(self.sock.getpeercert(binary_form=True) or b"")
        _, role, site = subject(shown)
        if (role, site) != ("gate", self._device.site) or forms.general(self.host) not in forms.alternatives(shown):
            self.close()
            what = f"what answers at {self.host} is not the gate of {self._device.site}: TLS with the coordinator failed"
            raise CoordinatorSilent(what, hint=f"edgefl doctor {self._device.name}")


def asked(device: Device, token: str, csr: str) -> bytes:
    """The chain that the coordinator gives for a request. Raises CoordinatorSilent, and PkiError with the reason of a refusal."""
    try:
        context = ssl.create_default_context(cafile=str(device.identity / "ca.crt"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the name that is asked for is not the host's; `_Connection` checks whose it is
        connection = _Connection(device, context)
        connection.request("POST", PATH, json.dumps({"token": token, "csr": csr}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read(_LONGEST)
        connection.close()
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        raise CoordinatorSilent(f"TLS with the coordinator failed: {why}", hint=f"edgefl doctor {device.name}") from error
    except (OSError, http.client.HTTPException) as error:
        raise CoordinatorSilent(f"the coordinator does not answer: {error}", hint=f"edgefl doctor {device.name}") from error
    try:
        told: Any = json.loads(said)
        if answer.status == 200:
            return str(told["chain"]).encode()
        what, hint = str(told["what"]), str(told.get("next", ""))
    except (ValueError, KeyError, TypeError):
        wait = "it takes 10 attempts a minute" if answer.status == 429 else f"edgefl doctor {device.name}"
        raise CoordinatorSilent(f"the gate answered {answer.status}", hint=wait) from None
    raise PkiError(f"the coordinator refuses: {what}", hint=hint)


def _asked_by_account(device: Device, token: str, csr: str) -> bytes:
    """`asked`, in a process of the account that the walls let through."""
    entry = pwd.getpwnam(device.account)
    command = [sys.executable, "-m", "edgefl.pki.enrol", "--config", str(device.config), "--account", device.account, "ask"]
    done = subprocess.run(  # this program again
        command,
        input=json.dumps({"token": token, "csr": csr}).encode(),
        stdout=subprocess.PIPE,
        check=False,
        user=entry.pw_uid if os.geteuid() != entry.pw_uid else None,
        group=entry.pw_gid if os.geteuid() != entry.pw_uid else None,
        extra_groups=[] if os.geteuid() != entry.pw_uid else None,
    )
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise CoordinatorSilent("asking the coordinator failed; the reason is above", hint="edgefl doctor") from None
    if "chain" in said:
        return str(said["chain"]).encode()
    error = PkiError(str(said["what"]), hint=str(said["next"]))
    error.exit_code = ExitCode(int(said["exit_code"]))
    raise error


def _token() -> str:
    """From whoever sits there, unseen, or from standard input; never from the arguments, which every account can read."""
    text = getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.readline()
    tokens.digest(text)
    return text.strip()


def _carried(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CarriedInVain(f"{path} cannot be read: {error.strerror}") from error


def _carry(path: Path, csr: bytes) -> None:
    try:
        path.write_bytes(csr)
    except OSError as error:
        raise CarriedInVain(f"{path} cannot be written: {error.strerror}", hint="the same command with another FILE") from error


def _done(device: Device, options: argparse.Namespace) -> dict[str, str]:
    """What the command did."""
    if options.step == "install":
        leaf = device.install(_carried(options.file))
    else:
        token = "" if options.step == "request" else _token()
        key = device.key(anew=options.new_key)
        csr = request.make(key, device.name)
        if options.step == "request":
            _carry(options.file, csr)
            return {"name": device.name, "request": str(options.file), "key_sha256": forms.fingerprint(key.public_key())}
        leaf = device.install(_asked_by_account(device, token, csr.decode()))
    return {"name": device.name, "serial": format(leaf.serial_number, "x"), "not_after": leaf.not_valid_after_utc.isoformat()}


def _said(done: dict[str, str]) -> str:
    if "request" in done:
        return (
            f"✔ {done['request']} is {done['name']}'s request, for the key with SHA-256 {done['key_sha256']}\n"
            f"  next: there, edgefl enrol sign FILE; here, {layout.ENROL} install {done['name']}.crt"
        )
    until = done["not_after"][:16].replace("T", " ")
    return f"✔ {done['name']} has its certificate, until {until} UTC; its service takes it by itself"


_EPILOG = """\
examples:
  edgefl-enrol                          asks for the token that `edgefl enrol token` printed
  edgefl-enrol request /media/usb/edge-03.csr
  edgefl-enrol install /media/usb/edge-03.crt

exit codes: 0 done · 2 usage, or nothing to install · 13 not root · 33 refused · 60 the coordinator does not answer
"""


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "edgefl-enrol", description="This device gets its certificate.", epilog=_EPILOG, formatter_class=shape
    )
    parser.add_argument("step", nargs="?", choices=["token", "request", "install", "ask"], default="token", metavar="STEP",
                        help="token (default), request or install")  # fmt: skip
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="request, install: what is carried")
    parser.add_argument("--new-key", action="store_true", help="give up the key that waits for a certificate")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--config", type=Path, default=layout.CONFIG, help=argparse.SUPPRESS)
    parser.add_argument("--account", default=layout.USER_NODE, help=argparse.SUPPRESS)
    return parser


def _ask(device: Device) -> int:
    """The half that speaks to the coordinator: a request on standard input, the chain or the reason on standard output."""
    said: dict[str, Any] = json.load(sys.stdin)
    try:
        answer: dict[str, object] = {"chain": asked(device, said["token"], said["csr"]).decode()}
    except EdgeflError as error:
        answer = error.as_dict()
    sys.stdout.write(json.dumps(answer))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Do one step; its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if (options.file is None) == (options.step in {"request", "install"}):
        parser.error(f"{options.step} takes {'a FILE' if options.file is None else 'no FILE'}")
    try:
        device = Device.load(options.config, options.account)
        if options.step == "ask":
            return _ask(device)
        if not os.access(device.identity, os.W_OK):
            raise NeedsRoot("the device's keys are root's to put in place", hint=f"sudo {layout.ENROL}")
        done = _done(device, options)
    except EdgeflError as error:
        if options.json:
            sys.stdout.write(json.dumps(error.as_dict()) + "\n")
        else:
            sys.stderr.write("\n".join(error.lines()) + "\n")
        return int(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("✖ stopped; the same command goes on\n")
        return int(ExitCode.CANCELLED)
    sys.stdout.write((json.dumps(done) if options.json else _said(done)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
