"""Whether a site still stands as the last run left it, so that a run with nothing to do ends after it has looked.

Two digests per host: of what the operator wants (variables, playbooks, the authority's word) and of what the host said of itself
right after it was converged. Where both are the same, every task would find nothing to do. The authority's word is the one that
hosts got: a run that makes the coordinator's own authority ends with another one than it began with. What no digest can say is
asked each time: that units are active, that the live firewall is the wanted one, and that nothing has come of age meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from edgefl.pki.anchors import lists_of
from edgefl.pki.lifetime import renewal

from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT

PASSING = ("clock", "clock_skew_s", "clock_uncertainty_s", "problems", "touched", "changed_at", "units", "machine")
"""What a host says of itself that is different each time, or is put differently below."""
OF_THE_RUN = (
    "ansible_",
    "inventory_",
    "group_names",
    "groups",
    "hostvars",
    "omit",
    "play_hosts",
    "playbook_dir",
    "vars",
    "environment",
)
"""Variables that Ansible sets itself and that want nothing; the connection's own (`ansible_host` …) have served by then."""


def wanted(variables: Mapping[str, Any], others: Iterable[str]) -> str:
    """Digest of what is asked of a host, without the authority's word. variables: its own, untemplated. others: what else
    decides, as text.
    """
    own = {name: value for name, value in variables.items() if name != FACT and not name.startswith(OF_THE_RUN)}
    return _digest([own, sorted(others)])


def under(wants: Mapping[str, str], word: str) -> dict[str, str]:
    """The same with an authority's word."""
    return {name: _digest([want, word]) for name, want in wants.items()}


def observed(facts: Mapping[str, Any]) -> str:
    """Digest of what a host said of itself, without what changes by itself.

    A file's time of change counts (a service may have to read it again), a directory's does not (services write there).
    """
    paths = facts["paths"]
    lasting = {name: value for name, value in facts.items() if name not in PASSING}
    changed = {path: at for path, at in facts["changed_at"].items() if (paths.get(path) or {}).get("kind") != "directory"}
    units = {name: [unit["exists"], unit["defined"]] for name, unit in facts["units"].items()}
    machine = {name: value for name, value in facts["machine"].items() if name != "free_mb"}
    return _digest([lasting, machine, changed, units])


def is_sound(facts: Mapping[str, Any], now: datetime) -> bool:
    """Whether everything on the host works at this moment, and no certificate or list of it is due."""
    units = [unit for unit in facts["units"].values() if unit["exists"]]
    firewall = facts["firewall"]
    return (
        bool(units)
        and all(unit["enabled"] and unit["active"] and not unit["reload"] for unit in units)
        and bool(firewall["live"])
        and firewall["live"] == firewall["expected"]
        and all(facts["devices"].values())
        and now < due(facts["identity"])
    )


def stands(
    record: Mapping[str, Sequence[str]], wants: Mapping[str, str], facts: Mapping[str, Mapping[str, Any]], now: datetime
) -> bool:
    """Whether every host (of `wants`, by name) is as the record says that the last run left it, for what is wanted now."""
    return all(
        not facts[name].get("problems") and record.get(name) == [want, observed(facts[name])] and is_sound(facts[name], now)
        for name, want in wants.items()
    )


def due(identity: Mapping[str, Any]) -> datetime:
    """When the first of a host's certificates and lists must be renewed; at once where one of them is no certificate."""
    try:
        leaves = [
            x509.load_pem_x509_certificate(chain.encode()) for name, chain in identity["certificates"].items() if name != "ca"
        ]
        if "renewal" in identity:
            leaves.append(x509.load_pem_x509_certificate(identity["renewal"]["certificate"].encode()))
        lists = lists_of(identity["crl"])
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    ends = [renewal(leaf) for leaf in leaves]
    return min([*ends, *(crl.next_update_utc for crl in lists if crl.next_update_utc)], default=datetime.min.replace(tzinfo=UTC))


def of_tree(root: Path) -> str:
    """Digest of every file under a directory: what the playbooks would do."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def load(path: Path) -> dict[str, list[str]]:
    """{host: [wanted, observed]} as the last run left it; empty where nothing is known."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save(path: Path, record: Mapping[str, list[str]]) -> None:
    """Atomically, for the operator alone."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file, indent=1, sort_keys=True)
    fresh.replace(path)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
