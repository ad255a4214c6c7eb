"""The operator's client certificate, as the TLS context that opens the gate."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgefl.errors import NotProvisioned
from edgefl.monitor.errors import MonitorUnreachable


class Identity:
    """`.edgefl/operator/`: operator.key, operator.crt, ca.crt. Read again when a file changes, so renewal needs no restart."""

    def __init__(self, directory: Path) -> None:
        self._key = directory / "operator.key"
        self._certificate = directory / "operator.crt"
        self._authority = directory / "ca.crt"
        self._stamps: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.3, the site's authority alone, this operator's certificate. Raises NotProvisioned or MonitorUnreachable."""
        try:
            stamps = tuple(path.stat().st_mtime_ns for path in (self._key, self._certificate, self._authority))
            if self._context is None or stamps != self._stamps:
                self._context, self._stamps = self._load(), stamps
        except FileNotFoundError as error:
            raise NotProvisioned(f"the operator has no certificate: {error.filename} is missing", hint="edgefl up") from error
        except (OSError, ssl.SSLError) as error:
            raise MonitorUnreachable(
                f"the operator's certificate in {self._key.parent} cannot be used: {error}", hint="edgefl up"
            ) from error
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the peer and its name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cafile=str(self._authority))
        context.load_cert_chain(str(self._certificate), str(self._key))
        return context


def why_refused(error: BaseException) -> tuple[str, str] | None:
    """What a TLS failure means for the operator and what to do next; None when the error is not about TLS."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not the coordinator's: {seen.verify_message}", "edgefl doctor coordinator"
        if isinstance(seen, ssl.SSLError):
            reason = (seen.reason or str(seen)).lower().replace("_", " ")
            for word, meaning in _ALERTS.items():
                if word in reason:
                    return meaning, "edgefl up"
            return f"TLS failed: {reason}", "edgefl doctor coordinator"
        seen = seen.__cause__ or seen.__context__
    return None


_ALERTS = {
    "certificate expired": "it says that the operator's certificate has expired",
    "certificate revoked": "it says that the operator's certificate is revoked",
    "unknown ca": "it does not trust the authority of the operator's certificate",
    "certificate required": "it got no certificate from the operator",
    "bad certificate": "it refused the operator's certificate",
}
"""Alerts of RFC 8446, section 6.2, that the gate sends."""
