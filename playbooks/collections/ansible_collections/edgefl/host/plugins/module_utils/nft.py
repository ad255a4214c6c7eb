"""The firewall as the kernel has it, and as the kernel would have it."""

from __future__ import annotations

import hashlib

from ansible_collections.edgefl.host.plugins.module_utils.process import run, which

TABLE = ("inet", "edgefl")


def live():
    """The table as the kernel has it now, without counters; empty when there is none."""
    if which("nft") is None:
        return ""
    code, listing, _ = run(["nft", "--stateless", "list", "table", *TABLE], check=False)
    return listing if code == 0 else ""


def expected(path):
    """What `live` would say after loading `path`: the kernel itself says so, in a network namespace of no other use.

    Raises CommandFailed with nft's own words when the ruleset does not load.
    """
    script = 'nft --file "$1" && exec nft --stateless list table ' + " ".join(TABLE)
    return run(["unshare", "--net", "sh", "-euc", script, "sh", path])[1]


def digest(listing):
    """A short name for a listing."""
    return hashlib.sha256(listing.encode()).hexdigest()[:16] if listing else ""
