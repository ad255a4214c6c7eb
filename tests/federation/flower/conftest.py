"""Services that are run within a test's own process, and a device's identity."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.federation.hostconfig import Places
from edgefl.federation.loopback import certify
from edgefl.pki.authority import Authority
from edgefl.site.model import Site


@pytest.fixture(autouse=True)
def speaks_anew() -> Iterator[None]:
    """What a service says goes to the stderr of its own test, not to that of whichever was first."""
    yield
    logging.getLogger("edgefl").handlers.clear()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "operator", site=Site.model_validate({"name": "demo", "devices": [{"name": "edge-1"}]}))


@pytest.fixture
def places(tmp_path: Path, authority: Authority) -> Places:
    """Where a device's identity lies, certified by the authority."""
    places = Places(tmp_path / "etc", tmp_path / "var")
    places.identity.mkdir(parents=True)
    places.authority.write_bytes(authority.bundle())
    certify(places.identity, "device", "device", "edge-1", authority)
    return places
