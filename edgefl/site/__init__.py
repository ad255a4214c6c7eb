"""site.yaml: one federation's desired state, loaded whole or refused with every mistake named.

Hosts know the models but not the file: loading, and the YAML parser that it needs, are imported when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgefl.site.model import Site

if TYPE_CHECKING:
    from edgefl.site.invalid import Finding, SiteInvalid
    from edgefl.site.loading import load, site_hash

__all__ = ["Finding", "Site", "SiteInvalid", "load", "site_hash"]


def __getattr__(name: str) -> Any:
    """Import what only the operator's machine needs (PEP 562)."""
    if name in {"Finding", "SiteInvalid"}:
        from edgefl.site import invalid

        return getattr(invalid, name)
    if name in {"load", "site_hash"}:
        from edgefl.site import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
