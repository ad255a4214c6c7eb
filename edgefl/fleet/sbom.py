"""What a bundle is made of, as a CycloneDX 1.6 document (ECMA-424): for whoever must answer which version of what runs where.

The same bundle gives the same bytes: no time is written, and the serial number follows from the contents.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
import zipfile
from collections.abc import Mapping
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from edgefl import __version__
from edgefl.fleet.fab import Fab

Component = dict[str, Any]
_SPEC = "1.6"


def document(bundle: Path, hashes: Mapping[str, str], app: Fab) -> bytes:
    """Describe every file. bundle: where they lie; hashes: SHA-256 by path in it. Wheels say themselves what they need."""
    contents = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())).encode()).hexdigest()
    wheels = {name: _metadata(bundle / name) for name in sorted(hashes) if name.endswith(".whl")}
    parts = {name: _wheel(name, about) for name, about in wheels.items()}
    parts |= {name: _deb(name) for name in sorted(hashes) if name.endswith(".deb")}
    parts["app/edgefl.tar.gz"] = {"type": "application", "name": "edgefl", "version": __version__}
    parts["app.fab"] = {"type": "application", "name": "task", "version": app.sha256[:12]}
    for name, part in parts.items():
        part |= {"bom-ref": name, "hashes": [{"alg": "SHA-256", "content": hashes[name]}]}
    root = {"type": "application", "bom-ref": "bundle", "name": "edgefl-bundle", "version": contents[:12]}
    said = {
        "$schema": f"http://cyclonedx.org/schema/bom-{_SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, contents)}",
        "version": 1,
        "metadata": {"component": root},
        "components": list(parts.values()),
        "dependencies": [{"ref": "bundle", "dependsOn": list(parts)}, *_needs(wheels)],
    }
    return (json.dumps(said, indent=1) + "\n").encode()


def _wheel(name: str, about: Mapping[str, str]) -> Component:
    version, file = about["Version"], Path(name).name
    purl = f"pkg:pypi/{_canonical(about['Name'])}@{quote(version, safe='')}?file_name={quote(file, safe='')}"
    part: Component = {"type": "library", "name": about["Name"], "version": version, "purl": purl}
    if expression := about.get("License-Expression"):
        part["licenses"] = [{"expression": expression}]
    elif (licence := about.get("License", "").strip()) and "\n" not in licence and licence.upper() != "UNKNOWN":
        part["licenses"] = [{"license": {"name": licence}}]
    return part


def _deb(name: str) -> Component:
    package, version, architecture = unquote(Path(name).stem).split("_")
    purl = f"pkg:deb/debian/{package}@{quote(version, safe='')}?arch={architecture}"
    return {"type": "library", "name": package, "version": version, "purl": purl}


def _needs(wheels: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Which wheel needs which, of those that are there; what only an extra asks for is left out."""
    by_name: dict[str, list[str]] = {}
    for name, about in wheels.items():
        by_name.setdefault(_canonical(about["Name"]), []).append(name)
    found = []
    for name, about in wheels.items():
        wanted = (line for line in about["Requires-Dist"].splitlines() if not re.search(r";.*\bextra\s*==", line))
        names = {_canonical(re.split(r"[^A-Za-z0-9._-]", line.strip(), maxsplit=1)[0]) for line in wanted}
        found.append({"ref": name, "dependsOn": sorted(other for one in names for other in by_name.get(one, []))})
    return found


def _metadata(wheel: Path) -> dict[str, str]:
    """The wheel's core metadata; `Requires-Dist` has one requirement a line."""
    with zipfile.ZipFile(wheel) as archive:
        place = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        headers = HeaderParser().parsestr(archive.read(place).decode(errors="replace"))
    return {**dict(headers.items()), "Requires-Dist": "\n".join(headers.get_all("Requires-Dist") or [])}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
