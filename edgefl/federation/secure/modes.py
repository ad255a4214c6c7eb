"""Which rounds a run has, by its site's mode."""

from __future__ import annotations

from pathlib import Path

from edgefl.federation.secure.round import SecureRounds
from edgefl.site.model import Secure


def secure_rounds(secure: Secure, identity: Path) -> SecureRounds | None:
    """None where updates come as they are. identity: the directory with the site's authorities and revocation lists."""
    if secure.mode == "homomorphic":
        from edgefl.federation.secure.encrypted import EncryptedRounds  # TenSEAL: only where it is used

        return EncryptedRounds(secure, identity)
    return SecureRounds(secure, identity) if secure.mode == "masked" else None
