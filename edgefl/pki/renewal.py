"""The renewal authority: it certifies hosts of the site while no operator is there, and can do nothing else.

Its key is made on the coordinator and stays there, so it may sign no more than a coordinator could do without it. Its certificate
(RFC 5280, section 4.2.1.10) is constrained to the roles of RENEWED and the site's own host names, to TLS, to no authority
below it, and to a short life. It cannot certify an operator, nor a device's signing key: secure sums stay out of the
coordinator's reach. Neither the root's nor the operator's issuing key is ever on the coordinator.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgefl.layout import ENROL
from edgefl.pki import forms, keys, request
from edgefl.pki.anchors import subject as subject_of
from edgefl.pki.errors import CsrRefused, PkiError
from edgefl.pki.profiles import Role, profiles

if TYPE_CHECKING:
    from edgefl.site.model import Site

RENEWED: Final[tuple[Role, ...]] = ("device", "gate", "superlink")
"""The roles whose certificates it renews."""
STEM: Final = "renewal"
"""How its files are called: `renewal.key`, `renewal.crt`."""
_SHORTEST = timedelta(minutes=5)


def constrained(
    builder: x509.CertificateBuilder, *, site: str, hosts: Sequence[str], issuer: x509.Certificate
) -> x509.CertificateBuilder:
    """What makes an authority's certificate a renewal authority's. hosts: the names of all hosts of the site."""
    names = sorted({*hosts, *(name for role in RENEWED for name in profiles().roles[role].names)})
    permitted: list[x509.GeneralName] = [x509.DirectoryName(forms.of_role(role, site)) for role in RENEWED]
    permitted += [x509.DNSName(name) for name in names]
    return (
        builder.issuer_name(issuer.subject)
        .add_extension(forms.authority_key(issuer), critical=False)
        .add_extension(x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def hosts_of(site: Site) -> list[str]:
    """The hosts that renew themselves: the coordinator and the devices. What the host that watches has, the operator renews."""
    return [host.name for host in (site.coordinator, *site.devices)]


def covered(certificate: x509.Certificate) -> set[str]:
    """The names that a renewal authority may certify."""
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return {name.value for name in constraints.permitted_subtrees or [] if isinstance(name, x509.DNSName)}


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewed certificate. chain: PEM, the leaf and then the renewal authority. key: SHA-256 of its public key, hex."""

    chain: bytes
    certificate: x509.Certificate
    key: str

    @property
    def serial(self) -> str:
        """In lower-case hex."""
        return format(self.certificate.serial_number, "x")


@dataclass(frozen=True, slots=True)
class RenewalAuthority:
    """The authority with its key, on the coordinator. trusted: who signed what it renews, beside itself."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    trusted: tuple[x509.Certificate, ...] = ()

    @classmethod
    def load(cls, directory: Path, anchors: Path | None = None) -> RenewalAuthority:
        """From its directory. anchors: the host's ca.crt. Raises PkiError where there is none yet, or it does not open."""
        try:
            certificate = x509.load_pem_x509_certificate((directory / f"{STEM}.crt").read_bytes())
            key = keys.load(directory / f"{STEM}.key")
            trusted = x509.load_pem_x509_certificates(anchors.read_bytes()) if anchors else []
        except (OSError, ValueError) as error:
            raise PkiError(f"this coordinator cannot renew certificates: {error}", hint="edgefl up") from error
        if key.public_key() != certificate.public_key():
            raise PkiError("the renewal authority's certificate is not of its key", hint="edgefl up")
        return cls(certificate, key, tuple(trusted))

    def revocations(self) -> bytes:
        """PEM of its own list, which is empty: what it signed is revoked by the operator's list, and at the gate by serial."""
        return forms.revocations(self.certificate).sign(self.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)

    def renew(self, current: x509.Certificate, csr_pem: bytes, *, used: Collection[str], now: datetime | None = None) -> Renewed:
        """The successor of a certificate, for another key: the same name, role, names and length of life.

        current: what the sender was let in by. used: SHA-256 of every key that was certified before. Raises CsrRefused, and
        PkiError when this authority is about to end itself.
        """
        now = (now or datetime.now(UTC)).replace(microsecond=0)
        name = self._renewable(current, now)
        alternatives = forms.alternatives(current)
        own = [entry.value for entry in alternatives]
        key = request.check(
            csr_pem,
            name=name,
            curve=_curve(current),
            names=[value for value in own if isinstance(value, str)],
            addresses=[value for value in own if isinstance(value, IPv4Address | IPv6Address)],
        )
        print_ = forms.fingerprint(key)
        if print_ == forms.fingerprint(current.public_key()) or print_ in used:
            raise CsrRefused(f"{name} asks for a key that was certified before", hint=f"edgefl doctor {name}")
        usages = list(current.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        life = current.not_valid_after_utc - current.not_valid_before_utc
        return self._signed(key, current.subject, usages, alternatives, now=now, life=life)

    def enrol(
        self,
        csr_pem: bytes,
        *,
        name: str,
        addresses: Sequence[str],
        life: timedelta,
        used: Collection[str],
        now: datetime | None = None,
    ) -> Renewed:
        """A certificate for a device that has none that serves, where the operator said that it may have one.

        addresses: the device's own, as the operator knows them. used: as in `renew`. Raises CsrRefused, and PkiError as `renew`.
        """
        now = (now or datetime.now(UTC)).replace(microsecond=0)
        if name not in covered(self.certificate):
            raise CsrRefused(f"{name} is no host that this coordinator may certify", hint="edgefl up")
        ips = [ip_address(address) for address in addresses]
        key = request.check(csr_pem, name=name, curve=ec.SECP256R1.name, names=[name], addresses=ips)
        if forms.fingerprint(key) in used:
            raise CsrRefused(f"{name} asks for a key that was certified before", hint=f"on {name}: {ENROL} --new-key")
        named = forms.subject(name, "device", subject_of(self.certificate)[2])
        alternatives = [x509.DNSName(name), *map(x509.IPAddress, ips)]
        return self._signed(key, named, [ExtendedKeyUsageOID.CLIENT_AUTH], alternatives, now=now, life=life)

    def _signed(
        self,
        key: ec.EllipticCurvePublicKey,
        named: x509.Name,
        usages: Sequence[x509.ObjectIdentifier],
        alternatives: Sequence[x509.GeneralName],
        *,
        now: datetime,
        life: timedelta,
    ) -> Renewed:
        begins = now - forms.BACKDATED
        ends = min(begins + life, self.certificate.not_valid_after_utc)
        if ends - now < _SHORTEST:
            raise PkiError("the renewal authority is about to end: only the operator can renew it", hint="edgefl up")
        builder = forms.leaf(key, named, usages, alternatives, self.certificate, begins=begins, ends=ends)
        certificate = builder.sign(self.key, hashes.SHA384())
        pem = serialization.Encoding.PEM
        return Renewed(certificate.public_bytes(pem) + self.certificate.public_bytes(pem), certificate, forms.fingerprint(key))

    def _renewable(self, current: x509.Certificate, now: datetime) -> str:
        """The name in a certificate that may have a successor."""
        name, role, site = subject_of(current)
        ours = subject_of(self.certificate)[2]
        if role not in RENEWED or site != ours:
            raise CsrRefused(f"{name or 'nobody'} as {role!r} of {site!r} is nobody whose certificate is renewed here")
        if not any(_is_signed(current, one) for one in (*self.trusted, self.certificate)):
            raise CsrRefused(f"{name}'s certificate is from another authority", hint=f"edgefl certs rotate {name}")
        if not current.not_valid_before_utc <= now < current.not_valid_after_utc:
            raise CsrRefused(f"{name}'s certificate does not serve now", hint=f"edgefl certs rotate {name}")
        return name


def _curve(current: x509.Certificate) -> str:
    """The kind of key that the successor is for: this one's. The profiles lie with the operator alone."""
    key = current.public_key()
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else ""


def _is_signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001  # other keys, other names, other algorithms: each has its own error, and all mean no
        return False
    return True
