"""Bring a bundle to a host: only what the host lacks travels, and a push that was cut off goes on where it stopped."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT

FOLDERS = {"debs": "debs/", "venv": "wheels/", "app": "app/", "fab": "app.fab"}
FURTHER = {"watch": "watch/", "exporter": "exporter/", "tunnel": "tunnel/"}
"""Packages that only some sites ask for."""
PACKAGES = {"wg": "wireguard-tools"}
"""What brings a command, where it is not called so."""
FAB = "/etc/edgefl/app.fab"
LINKS = {"/opt/edgefl/venv": "venvs/{deps_hash}", "/opt/edgefl/current": "releases/{app_hash}"}
PART_BYTES = 16 << 20
"""Files travel in parts of this size: what arrived of them need not travel again."""


class ActionModule(FactfulAction):
    """Asks what is missing, pushes it, and has it checked and installed."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Nothing when everything stands and is in use; until `push` or `install`, when nothing need be pushed or installed."""
        place = Path(wanted["bundle"])
        is_bare = not wanted["deps_hashes"]  # packages alone: the host runs no code of edgefl's
        hashes = {"deps_hash": "" if is_bare else self.deps_hash(wanted), "app_hash": wanted["app_hash"]}
        lacking = self.lacking({**wanted, **hashes})
        links = {} if is_bare else {path: {"kind": "link", "target": target.format(**hashes)} for path, target in LINKS.items()}
        moved = [path for path, link in links.items() if not self.facts or self.facts["paths"].get(path) != link]
        until = wanted.get("until", "use")
        if not lacking and (until != "use" or not moved):
            return self.unchanged(touched=[], pushed=[])
        manifest = read_manifest(place)
        files = files_of(place, manifest, lacking, self.facts["machine"]["architecture"])
        for part in [part for part in FURTHER if part in lacking]:
            if not any(name.startswith(FURTHER[part]) for name in files):
                packages = ", ".join(PACKAGES.get(command, command) for command in wanted[part])
                raise AnsibleActionFail(f"the bundle carries no packages: install {packages} on this host")
        if self.is_checking:
            what = [f"install {part}" for part in lacking] + [f"{path} -> {links[path]['target']}" for path in moved]
            diff = {"before_header": "runtime", "after_header": "runtime", "before": "", "after": "\n".join(what) + "\n"}
            return {"changed": True, "touched": moved, "diff": diff}
        pushed = self.push(place, files) if files else []
        proven = {"manifest": manifest, "signature": signature_of(place), "authority": authority_of(Path(wanted["authority"]))}
        if until == "push":
            result = self.ask("runtime", step="keep", files=files, pushed=bool(pushed), **proven)
        else:
            install = {
                "files": files,
                "pushed": bool(pushed),
                "want": lacking,
                "imports": wanted["imports"],
                "prove": wanted["prove"],
                "use": until == "use" and not is_bare,
            }
            result = self.ask("runtime", step="install", **install, **proven, **hashes)
            has = self.facts["runtime"]
            made = {"venvs": [hashes["deps_hash"]], "releases": [hashes["app_hash"]]} if not is_bare else {}
            installed = {kind: [*has[kind], *made.get(kind, [])] for kind in ("venvs", "releases")}
            result["ansible_facts"] = {FACT: {**self.facts, "runtime": installed}}
        return {**result, "pushed": sorted(pushed)}

    def deps_hash(self, wanted: dict[str, Any]) -> str:
        """What names the environment for this host's processor."""
        if not self.facts:
            raise AnsibleActionFail("the host was not read yet: edgefl.host.facts comes first")
        architecture, hashes = self.facts["machine"]["architecture"], wanted["deps_hashes"]
        if architecture not in hashes:
            has = " and ".join(hashes)
            raise AnsibleActionFail(f"the bundle holds wheels for {has}, and this host is {architecture}: runtime.architectures")
        return str(hashes[architecture])

    def lacking(self, wanted: dict[str, Any]) -> list[str]:
        """Which parts of the bundle the host has not installed completely."""
        installed, commands = self.facts["runtime"], self.facts["commands"]
        has = {
            "debs": all(commands.get(command) for command in wanted.get("commands", [])),
            "venv": not wanted["deps_hash"] or wanted["deps_hash"] in installed["venvs"],
            "app": not wanted["app_hash"] or wanted["app_hash"] in installed["releases"],
            "fab": not wanted.get("fab_sha256") or self.has_fab(wanted["fab_sha256"]),
            **{part: all(commands.get(command) for command in wanted.get(part, [])) for part in FURTHER},
        }
        return [part for part, is_there in has.items() if not is_there]

    def has_fab(self, sha256: str) -> bool:
        """Whether the Flower app lies where the monitor takes it from."""
        wanted = {"kind": "file", "owner": "root", "group": "root", "mode": "0644", "sha256": sha256}
        return bool(self.facts["paths"].get(FAB) == wanted)

    def push(self, bundle: Path, files: dict[str, str]) -> list[str]:
        """Copy to the host what its cache lacks of these files, but for parts that lie there already; which files these were."""
        there = self.ask("runtime", step="missing", files=files)
        for name in there["missing"]:
            for part, content in parts_of(bundle / name, files[name]):
                if there["held"].get(part) == len(content):
                    continue
                with tempfile.NamedTemporaryFile(prefix="edgefl-part-") as file:
                    file.write(content)
                    file.flush()
                    self._transfer_file(file.name, self._connection._shell.join_path(there["incoming"], part))
        missing: list[str] = there["missing"]
        return missing


def parts_of(file: Path, digest: str) -> Iterator[tuple[str, bytes]]:
    """A file's parts, each under the name that it has on the way; an empty file has one, too."""
    with file.open("rb") as content:
        number = 0
        while (part := content.read(PART_BYTES)) or not number:
            yield f"{digest}.{number:05}", part
            number += 1


def read_manifest(bundle: Path) -> str:
    """The manifest as it was signed."""
    try:
        return (bundle / "manifest.json").read_text()
    except OSError as failure:
        raise AnsibleActionFail(f"the bundle {bundle} cannot be read: {failure}") from failure


def signature_of(bundle: Path) -> str:
    """Who answers for the manifest, in base64; empty where nobody does. The host judges it."""
    try:
        return base64.b64encode((bundle / "manifest.sig").read_bytes()).decode()
    except FileNotFoundError:
        return ""


def authority_of(directory: Path) -> str:
    """The site's own certificates, for a host that has none of them yet."""
    found = (directory / name for name in ("root.crt", "issuing.crt"))
    return "".join(certificate.read_text() for certificate in found if certificate.exists())


def files_of(bundle: Path, manifest: str, parts: list[str], architecture: str) -> dict[str, str]:
    """SHA-256 by path of everything that these parts of the bundle are for a host of this architecture."""
    try:
        about = json.loads(manifest)
        files: dict[str, str] = about["files"]
        wheels = {f"wheels/{name}" for name in about["deps"].get(architecture, {"wheels": []})["wheels"]}
    except (ValueError, KeyError, TypeError) as failure:
        raise AnsibleActionFail(f"the bundle {bundle} cannot be read: {failure!r}") from failure
    folders = tuple({**FOLDERS, **FURTHER}[part] for part in parts)
    wanted = {name: digest for name, digest in files.items() if folders and name.startswith(folders)}
    found = {name: digest for name, digest in wanted.items() if not name.startswith("wheels/") or name in wheels}
    gone = [name for name in found if not (bundle / name).exists()]
    if gone:
        raise AnsibleActionFail(f"the bundle is corrupt: {', '.join(gone[:3])} is not in {bundle}")
    return found
