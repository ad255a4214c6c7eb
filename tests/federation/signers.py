"""Signing keys of devices, made once: their files are what the playbooks put on a device."""

from __future__ import annotations

from pathlib import Path

from edgefl.federation.loopback import certify
from edgefl.pki.authority import Authority
from edgefl.site.model import Site


class Signers:
    """The directories of devices' signing keys, all of one authority. Called with a device's name."""

    def __init__(self, root: Path, site: str = "s") -> None:
        self.root = root
        devices = [{"name": f"edge-{n}"} for n in range(10)]
        self.authority = Authority.open(root, site=Site.model_validate({"name": site, "devices": devices}))

    def __call__(self, name: str) -> Path:
        directory = self.root / name
        if not directory.exists():
            directory.mkdir()
            certify(directory, "signer", "signer", name, self.authority)
            (directory / "ca.crt").write_bytes(self.authority.bundle())
            (directory / "crl.pem").write_bytes(self.authority.crl())
        return directory
