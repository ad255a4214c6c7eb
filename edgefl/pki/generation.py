"""A root and the issuing authority under it, with their keys; a site has one, and two while one takes the other's place."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgefl.pki import forms, keys
from edgefl.pki.profiles import profiles
from edgefl.pki.register import Entry
from edgefl.pki.renewals import write
from edgefl.site.model import Site

PEM = serialization.Encoding.PEM
FILES = ("root.key", "issuing.key", "root.crl", "cross.crt", "issuing.crt", "root.crt")
"""What a generation consists of; its certificates come last, since by them it exists."""


class Generation:
    """The files of one, in a directory."""

    def __init__(self, directory: Path, site: Site, passphrase: str | None) -> None:
        self.directory, self._site, self._passphrase = directory, site, passphrase

    @property
    def exists(self) -> bool:
        """Whether it is complete."""
        return (self.directory / "root.crt").exists() and (self.directory / "issuing.crt").exists()

    @property
    def root(self) -> x509.Certificate:
        """Its root's certificate."""
        return self._read("root.crt")

    @property
    def issuing(self) -> x509.Certificate:
        """The certificate that signs leaves."""
        return self._read("issuing.crt")

    @property
    def above(self) -> x509.Certificate:
        """What a leaf's chain goes on with: the issuing authority, in an overlap as the older root certified it, too.

        Whoever trusts the older root alone follows that; whoever trusts the newer one has the issuing authority itself.
        """
        return self._read("cross.crt") if (self.directory / "cross.crt").exists() else self.issuing

    def bundle(self) -> bytes:
        """PEM of root and issuing authority."""
        return (self.directory / "root.crt").read_bytes() + (self.directory / "issuing.crt").read_bytes()

    def create(self, *, mark: bool = False) -> None:
        """Make what is missing. mark: whether the names say which of several it is."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        if not (self.directory / "root.crt").exists():
            self._create_root(mark=mark)
        if not (self.directory / "issuing.crt").exists():
            self._create_issuing(mark=mark)

    def certify(self, other: Generation) -> None:
        """Have this root certify another generation's issuing authority, beside its own root."""
        theirs = other.issuing
        key = theirs.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  # `create` made it
        ends = min(theirs.not_valid_after_utc, self.root.not_valid_after_utc)
        builder = forms.authority(theirs.subject, key, profiles().authority["issuing"].path_length, ends)
        certificate = self.sign_by_root(
            builder.issuer_name(self.root.subject).add_extension(forms.authority_key(self.root), False)
        )
        write(other.directory / "cross.crt", certificate.public_bytes(PEM))

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign a leaf."""
        return builder.sign(self._issuing_key, hashes.SHA384())

    def endorse(self, content: bytes) -> bytes:
        """The issuing authority's ECDSA signature over what is no certificate, DER."""
        return self._issuing_key.sign(content, ec.ECDSA(hashes.SHA384()))

    def sign_by_root(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign an authority."""
        return builder.sign(keys.load(self.directory / "root.key", self._passphrase), hashes.SHA384())

    def lists(self, revoked: Iterable[Entry]) -> bytes:
        """PEM of the root's list and of the issuing authority's, with these entries."""
        builder = _with(forms.revocations(self.issuing), revoked)
        return (self.directory / "root.crl").read_bytes() + builder.sign(self._issuing_key, hashes.SHA384()).public_bytes(PEM)

    def list_by_root(self, revoked: Iterable[Entry]) -> None:
        """Make the root's list anew, with these authorities."""
        builder = _with(forms.revocations(self.root), revoked)
        crl = builder.sign(keys.load(self.directory / "root.key", self._passphrase), hashes.SHA384())
        write(self.directory / "root.crl", crl.public_bytes(PEM))

    def replaced_by(self, other: Generation, old: Path) -> None:
        """Move this one's files to `old` and the other's here; cut short, the same call goes on."""
        if not old.exists():
            waiting = old.with_name(old.name + ".new")
            shutil.rmtree(waiting, ignore_errors=True)
            waiting.mkdir(mode=0o700)
            for name in FILES:
                if (self.directory / name).exists():
                    shutil.copy2(self.directory / name, waiting / name)
            waiting.rename(old)
        for name in FILES:
            if (other.directory / name).exists():
                (other.directory / name).replace(self.directory / name)
        shutil.rmtree(other.directory, ignore_errors=True)
        self.__dict__.pop("_issuing_key", None)

    def _create_root(self, *, mark: bool) -> None:
        profile = profiles().authority["root"]
        (self.directory / "root.key").unlink(missing_ok=True)  # a key without its certificate is a first run that was cut short
        key = keys.create(self.directory / "root.key", profile.curve, self._passphrase)
        subject = forms.subject(_named("edgefl root", key, mark=mark), "authority", self._site.name)
        ends = datetime.now(UTC) + timedelta(days=self._site.certificates.root_days)
        builder = forms.authority(subject, key.public_key(), profile.path_length, ends)
        certificate = builder.issuer_name(subject).sign(key, hashes.SHA384())
        write(self.directory / "root.crl", forms.revocations(certificate).sign(key, hashes.SHA384()).public_bytes(PEM))
        write(self.directory / "root.crt", certificate.public_bytes(PEM))

    def _create_issuing(self, *, mark: bool) -> None:
        profile, root = profiles().authority["issuing"], self.root
        (self.directory / "issuing.key").unlink(missing_ok=True)
        key = keys.create(self.directory / "issuing.key", profile.curve, self._passphrase)
        subject = forms.subject(_named("edgefl issuing", key, mark=mark), "authority", self._site.name)
        ends = min(datetime.now(UTC) + timedelta(days=self._site.certificates.issuing_days), root.not_valid_after_utc)
        builder = forms.authority(subject, key.public_key(), profile.path_length, ends).issuer_name(root.subject)
        certificate = self.sign_by_root(builder.add_extension(forms.authority_key(root), critical=False))
        write(self.directory / "issuing.crt", certificate.public_bytes(PEM))

    def _read(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.directory / name).read_bytes())

    @cached_property
    def _issuing_key(self) -> ec.EllipticCurvePrivateKey:
        return keys.load(self.directory / "issuing.key", self._passphrase)


def _named(name: str, key: ec.EllipticCurvePrivateKey, *, mark: bool) -> str:
    return f"{name} {forms.fingerprint(key.public_key())[:12]}" if mark else name


def _with(builder: x509.CertificateRevocationListBuilder, revoked: Iterable[Entry]) -> x509.CertificateRevocationListBuilder:
    for entry in revoked:
        builder = builder.add_revoked_certificate(forms.revoked(entry.serial, datetime.fromisoformat(entry.revoked_at)))
    return builder
