"""What can go wrong with identities."""

from __future__ import annotations

from edgefl.errors import EdgeflError, ExitCode


class PkiError(EdgeflError):
    """The authority cannot do what was asked."""

    exit_code = ExitCode.PKI_FAILED


class CsrRefused(PkiError):
    """A request asks for something that is not its sender's: it is refused, never corrected."""


class CertificateRefused(PkiError):
    """A certificate is not the one that it should be; the text says how."""
