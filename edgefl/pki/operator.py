"""The operator's own identity: what opens the monitor, renewed whenever it is used near its end."""

from __future__ import annotations

from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from socket import gethostname

from cryptography import x509

from edgefl.pki import keys, request
from edgefl.pki.authority import Authority
from edgefl.pki.lifetime import renewal
from edgefl.pki.profiles import profiles
from edgefl.site.model import Site


def ensure_operator(site: Site, *, passphrase: str | None = None) -> Path:
    """The directory with operator.key, operator.crt and ca.crt, valid for at least a third of a certificate's life."""
    directory = site.state / "operator"
    certificate = directory / "operator.crt"
    if not why_due(site):
        return directory
    authority = Authority.open(site.state, site=site, passphrase=passphrase)
    path = directory / "operator.key"
    key = keys.load(path) if path.exists() else keys.create(path, profiles().roles["operator"].curve)
    name = operator_name()
    issued = authority.sign_csr(request.make(key, name), name=name, role="operator")
    (directory / "ca.crt").write_bytes(authority.bundle())
    fresh = directory / "operator.crt.new"
    fresh.write_bytes(issued.chain)
    fresh.replace(certificate)
    return directory


def forget_operator(site: Site, name: str) -> None:
    """Delete this machine's own key and certificate when they are in this name: the next use makes others."""
    if name == operator_name():
        for file in ("operator.key", "operator.crt"):
            (site.state / "operator" / file).unlink(missing_ok=True)


def operator_name() -> str:
    """Who acts, as the audit log names them: `user@machine`, at most the 64 characters that a subject holds."""
    return f"{getuser()}@{gethostname()}"[:64]


def trusted_now(site: Site) -> bytes:
    """PEM of every root and issuing authority of the site, as `Authority.bundle` gives it, without opening a key."""
    places = (
        site.state / "pki" / f"{generation}{name}.crt" for generation in ("", "next/", "old/") for name in ("root", "issuing")
    )
    return b"".join(place.read_bytes() for place in places if place.exists())


def why_due(site: Site) -> str:
    """Why the operator's certificate would be renewed; empty while it serves."""
    directory = site.state / "operator"
    certificate, root, trusted = directory / "operator.crt", site.state / "pki" / "root.crt", directory / "ca.crt"
    if not certificate.exists():
        return "there is none"
    if not trusted.exists() or not root.exists() or not trusted.read_bytes().startswith(root.read_bytes()):
        return "it is from another root"
    if trusted.read_bytes() != trusted_now(site):
        return "the roots that count have changed"
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    return "it expires soon" if datetime.now(UTC) > renewal(leaf) else ""
