"""Which rounds a run has, by its site's mode."""

from __future__ import annotations

from edgefl.federation.secure.round import SecureRounds
from edgefl.site.model import Secure


def secure_rounds(secure: Secure) -> SecureRounds | None:
    """None where updates come as they are."""
    if secure.mode == "homomorphic":
        from edgefl.federation.secure.encrypted import EncryptedRounds  # TenSEAL: only where it is used

        return EncryptedRounds(secure)
    return SecureRounds(secure) if secure.mode == "masked" else None
