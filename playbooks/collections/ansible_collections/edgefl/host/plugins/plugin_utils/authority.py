"""The operator's own authority, opened once per process."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

from edgefl.pki.anchors import lists_of
from edgefl.pki.authority import Authority
from edgefl.site import load

from ansible_collections.edgefl.host.plugins.plugin_utils.renewal import content_of

PASSPHRASE = "EDGEFL_PASSPHRASE"  # noqa: S105  # the variable's name
PASSPHRASE_FILE = "EDGEFL_PASSPHRASE_FILE"  # noqa: S105
"""Where the passphrase can be read once instead: edgefl hands it over in memory, so that no log of the run can hold it."""


@cache
def site_of(site_file: str) -> Any:
    """The site, loaded once."""
    return load(Path(site_file))


@cache
def of(site_file: str, state_dir: str) -> Authority:
    """The authority that lies in the site's state."""
    return Authority.open(Path(state_dir), site=site_of(site_file), passphrase=passphrase())


def word_of(authority: Authority) -> str:
    """Who is trusted, and who no more: the same as long as neither changes, however often its lists are signed again."""
    said = [authority.bundle(), *content_of(lists_of(authority.crl().decode()))]
    return hashlib.sha256(repr(said).encode()).hexdigest()


def passphrase() -> str | None:
    """What opens the authority's keys, from a file or the environment."""
    place = os.environ.get(PASSPHRASE_FILE)
    if place:
        return Path(place).read_text() or None
    return os.environ.get(PASSPHRASE) or None
