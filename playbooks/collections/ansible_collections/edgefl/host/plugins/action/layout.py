"""Lay out a host where it is not laid out already."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import TOUCHED

DEFAULTS = {"owner": "root", "group": "root"}


class ActionModule(FactfulAction):
    """Sends the host only what differs from what it is known to have."""

    TRANSFERS_FILES = False

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Everything when the facts are old, else what differs."""
        differing = {kind: self.differing(kind, entries or []) for kind, entries in wanted.items()}
        differing = {kind: entries for kind, entries in differing.items() if entries}
        return self.ask("layout", **differing) if differing else self.unchanged(touched=[])

    def differing(self, kind: str, entries: list[Any]) -> list[Any]:
        """The entries of one kind that the host does not have as wanted."""
        return [entry for entry in entries if not self.facts or not self.is_there(kind, entry)]

    def is_there(self, kind: str, entry: Any) -> bool:
        """Whether the facts show the entry as it is wanted; what they do not show is not there."""
        if kind == "groups":
            return any(entry in groups for groups in self.facts["accounts"].values())
        if kind == "accounts":
            return bool(self.facts["accounts"].get(entry["name"]) == [entry["name"], *sorted(entry.get("groups", []))])
        if kind == "stopped":
            return str(self.facts["units"].get(entry, {}).get("state", "inactive")).startswith(("inactive", "failed"))
        path = entry if kind == "absent" else entry["path"]
        if path in self.facts.get(TOUCHED, []) or (kind == "absent" and not self.facts["paths"]):
            return False
        found = self.facts["paths"].get(path)
        return found is None if kind == "absent" else found == described(kind, entry)


def described(kind: str, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry in the form in which a host describes what it has."""
    if kind == "links":
        return {"kind": "link", "target": entry["target"]}
    entry = {**DEFAULTS, **entry}
    form = {"kind": "directory" if kind == "directories" else "file", **{key: entry[key] for key in ("owner", "group", "mode")}}
    if kind == "files":
        form["sha256"] = hashlib.sha256(str(entry["content"]).encode()).hexdigest()
    return form
