"""Bring a bundle to a host: only what the host lacks travels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction

FOLDERS = {"debs": "debs/", "venv": "wheels/", "app": "app/", "fab": "app.fab"}
FAB = "/etc/edgefl/app.fab"
LINKS = {"/opt/edgefl/venv": "venvs/{deps_hash}", "/opt/edgefl/current": "releases/{app_hash}"}


class ActionModule(FactfulAction):
    """Asks what is missing, pushes it, and has it checked and installed."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Nothing when everything stands and is in use."""
        bundle = Path(wanted["bundle"])
        hashes = {"deps_hash": wanted["deps_hash"], "app_hash": wanted["app_hash"]}
        lacking = self.lacking(wanted)
        links = {path: {"kind": "link", "target": target.format(**hashes)} for path, target in LINKS.items()}
        moved = [path for path, link in links.items() if not self.facts or self.facts["paths"].get(path) != link]
        if not lacking and not moved:
            return self.unchanged(touched=[], pushed=[])
        files = files_of(bundle, [FOLDERS[part] for part in lacking])
        if self.is_checking:
            what = [f"install {part}" for part in lacking] + [f"{path} -> {links[path]['target']}" for path in moved]
            diff = {"before_header": "runtime", "after_header": "runtime", "before": "", "after": "\n".join(what) + "\n"}
            return {"changed": True, "touched": moved, "diff": diff}
        missing = self.ask("runtime", step="missing", files=files)["missing"] if files else []
        pushed = self.push(bundle, missing)
        install = {"files": files, "pushed": pushed, "want": lacking, "imports": wanted["imports"]}
        result = self.ask("runtime", step="install", **install, **hashes)
        return {**result, "pushed": sorted(pushed)}

    def lacking(self, wanted: dict[str, Any]) -> list[str]:
        """Which parts of the bundle the host has not installed completely."""
        if not self.facts:
            raise AnsibleActionFail("the host was not read yet: edgefl.host.facts comes first")
        installed, commands = self.facts["runtime"], self.facts["commands"]
        has = {
            "debs": all(commands.get(command) for command in wanted.get("commands", [])),
            "venv": wanted["deps_hash"] in installed["venvs"],
            "app": wanted["app_hash"] in installed["releases"],
            "fab": not wanted.get("fab_sha256") or self.has_fab(wanted["fab_sha256"]),
        }
        return [part for part, is_there in has.items() if not is_there]

    def has_fab(self, sha256: str) -> bool:
        """Whether the Flower app lies where the monitor takes it from."""
        wanted = {"kind": "file", "owner": "root", "group": "root", "mode": "0644", "sha256": sha256}
        return bool(self.facts["paths"].get(FAB) == wanted)

    def push(self, bundle: Path, missing: list[str]) -> dict[str, str]:
        """Copy files to the host; returns where each lies there."""
        if not missing:
            return {}
        place = self._connection._shell.tmpdir or self._make_tmp_path()
        pushed = {}
        for number, name in enumerate(missing):
            pushed[name] = self._connection._shell.join_path(place, f"edgefl-{number}")
            self._transfer_file(str(bundle / name), pushed[name])
        return pushed


def files_of(bundle: Path, folders: list[str]) -> dict[str, str]:
    """SHA-256 by path, from the bundle's manifest, of everything in `folders`."""
    try:
        files: dict[str, str] = json.loads((bundle / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError) as failure:
        raise AnsibleActionFail(f"the bundle {bundle} cannot be read: {failure}") from failure
    found = {name: digest for name, digest in files.items() if name.startswith(tuple(folders))} if folders else {}
    gone = [name for name in found if not (bundle / name).exists()]
    if gone:
        raise AnsibleActionFail(f"the bundle is corrupt: {', '.join(gone[:3])} is not in {bundle}")
    return found
