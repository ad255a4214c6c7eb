"""Reading a site.yaml: everything that is wrong with it comes out at once, before anything is touched."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgefl.site import checks, made, problems
from edgefl.site.invalid import Finding, SiteInvalid
from edgefl.site.model import Site
from edgefl.site.source import Location, Source

FILE = "site.yaml"


def load(path: Path, *, with_files: bool = False) -> Site:
    """The site that a directory's site.yaml (or the file itself) describes.

    Relative paths are resolved against its directory. `with_files` also demands that the files it names exist, which
    deploying needs and inspecting or taking down does not. Raises SiteInvalid with every mistake and its line.
    """
    return _checked(Source.read(place(path)), with_files=with_files)


def loads(text: str, path: Path, *, with_files: bool = False) -> Site:
    """The site that this text would describe if it stood in the file at `path`; nothing is read but what it names. As `load`."""
    return _checked(Source.parse(text, place(path)), with_files=with_files)


def place(path: Path) -> Path:
    """The site.yaml of a directory; a file is itself."""
    return path / FILE if path.is_dir() or not path.suffix else path


def _checked(source: Source, *, with_files: bool) -> Site:
    root = source.path.parent.absolute()
    if not isinstance(source.values, dict):
        what = "the file is empty" if source.values is None else "the file must be a section (`key: value` lines)"
        raise SiteInvalid([Finding(source.where(()), what, "edgefl init writes one to start from")])
    found: dict[Location, Finding] = {}
    site: Site | None
    try:
        site = Site.model_validate(source.values)
    except ValidationError as error:
        found = problems.findings(error, source)
        site = _mended(source.values, found)
    if site is not None:
        site = made.joined(site.at(root))
        doubtful = {str(location[0]) for location in found if location}
        for location, what, hint in (*checks.mistakes(site, doubtful), *(checks.missing_files(site) if with_files else ())):
            if not _below(location, found):
                found.setdefault(location, Finding(source.where(location), what, hint))
    if found or site is None:
        raise SiteInvalid(found.values())
    return site


def site_hash(site: Site) -> str:
    """SHA-256 (hex) of the site's meaning: equal for two files that say the same, wherever they lie.

    Who watches is no part of it: no run goes otherwise for that, and no device starts anew.
    """
    values = site.model_dump(mode="json", exclude={"observability": True, "isolation": {"watcher"}})
    for section in (values["infrastructure"], values["coordinator"], *values["devices"]):
        for key in ("source", "ssh_key", "data"):
            if (given := section.get(key)) and Path(given).is_relative_to(site.root):
                section[key] = os.path.relpath(given, site.root)
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _below(location: Location, found: Collection[Location]) -> bool:
    """Whether a mistake was already found at the location or above it."""
    return any(tuple(location[: len(known)]) == tuple(known) for known in found)


def _mended(values: Any, found: Collection[Location]) -> Site | None:
    """The site without its wrong values, so that the rest can be checked too; None when too little is left."""
    values = deepcopy(values)
    for location in found:
        _mend(values, location)
    try:
        return Site.model_validate(values)
    except ValidationError:
        return None


def _mend(values: Any, location: Location) -> None:
    """Take a wrong value out; a host's name gets a stand-in, and devices stay in their places. Any other list goes as a whole."""
    node = values
    for depth, step in enumerate(location[:-1], 1):
        if step not in node and not isinstance(node, list):
            return  # it went with its list, for another mistake there
        if step != "devices" and isinstance(node[step], list):
            location = location[:depth]
            break
        node = node[step]
    last = location[-1]
    stand_in = "unnamed" + "-".join(str(step) for step in location if isinstance(step, int))
    if last == "name":
        node[last] = stand_in
    elif isinstance(last, int):
        node[last] = {"name": f"unnamed{last}"}
    else:
        node.pop(last, None)
