"""Everything that hosts need, in one directory: devices never see the internet.

manifest.json     every file with its SHA-256, and the hashes that say what changed
manifest.sig      the authority's word for the manifest (signature.py), without which no host installs anything of it
wheels/*.whl      what edgefl depends on         → a hash for each architecture
debs/*.deb        haproxy, nftables and what they need
watch/*.deb       Prometheus, Alertmanager and node_exporter, where the site asks for them
exporter/*.deb    node_exporter alone, for hosts that Prometheus reads from another, where the site asks for that
tunnel/*.deb      WireGuard, where the site asks for a tunnel
app/edgefl.tar.gz edgefl's own code              → app_hash
app.fab           the Flower app with the task   → fab_sha256
sbom.cdx.json     what all of this is (sbom.py)

A bundle appears whole or not at all, and is the same for the same input; wheels and packages are fetched once for all sites.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import debs, fab, sbom, source, store, wheels
from edgefl.progress import Finished, Progress, Started, Warned
from edgefl.site.model import Site

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
SBOM = "sbom.cdx.json"
STAGE = wheels.STAGE
VERSION = 2
"""Of the manifest."""

Linked = dict[str, tuple[Path, store.StoredFile]]
"""Fetched files by their path in the bundle, each with the directory that it lies in."""


class BundleInvalid(EdgeflError):
    """The bundle is missing, or is not what its manifest says."""

    exit_code = ExitCode.BUNDLE_INVALID


class Dependencies(TypedDict):
    """The wheels that hosts of one architecture install, by name, and one hash over them."""

    hash: str
    wheels: list[str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk, as its manifest describes it.

    deps: by architecture, the wheels for Python `python`. app_hash: edgefl's code. fab_sha256: the Flower app.
    files: path in the bundle → SHA-256.
    """

    path: Path
    python: str
    deps: dict[str, Dependencies]
    app_hash: str
    fab_sha256: str
    files: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read the manifest. Raises BundleInvalid when there is none that can be read."""
        try:
            about: dict[str, Any] = json.loads((path / MANIFEST).read_text())
            if about["version"] != VERSION:
                raise ValueError(f"it is of version {about['version']}, this edgefl reads {VERSION}")
            return cls(path, **{name: about[name] for name in cls.__slots__ if name != "path"})
        except FileNotFoundError:
            raise BundleInvalid(f"there is no bundle at {path}", hint="edgefl up builds it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleInvalid(f"{path / MANIFEST} cannot be read: {error!r}", hint=f"rm -r {path}, then edgefl up") from error

    @property
    def deps_hashes(self) -> dict[str, str]:
        """By architecture, what names the virtual environment that is made of the wheels."""
        return {architecture: deps["hash"] for architecture, deps in self.deps.items()}

    @property
    def version(self) -> str:
        """A short name for what hosts run with this bundle: other wheels, code or task give another."""
        parts = [*(f"{architecture} {name}" for architecture, name in sorted(self.deps_hashes.items())), self.app_hash]
        return hashlib.sha256("\0".join([*parts, self.fab_sha256]).encode()).hexdigest()[:12]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum((self.path / name).stat().st_size for name in self.files)

    @property
    def wheels(self) -> tuple[Path, ...]:
        """Every wheel, by name."""
        return self._under("wheels/")

    @property
    def debs(self) -> tuple[Path, ...]:
        """Every Debian package, by name; none when the operator's machine could not fetch them."""
        return self._under("debs/")

    def verify(self) -> None:
        """Read every file. Raises BundleInvalid naming each one that is missing, altered or unknown."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            findings = list(pool.map(self._finding, self.files))
        present = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
        findings += [f"{name} is not in the manifest" for name in sorted(present - {*self.files, MANIFEST, SIGNATURE})]
        if wrong := [finding for finding in findings if finding]:
            raise BundleInvalid(
                f"the bundle {self.path} is corrupt: {'; '.join(wrong)}", hint=f"rm -r {self.path}, then edgefl up"
            )

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says."""
        return {"version": VERSION, **{name: getattr(self, name) for name in self.__slots__ if name != "path"}}

    def _under(self, folder: str) -> tuple[Path, ...]:
        return tuple(self.path / name for name in sorted(self.files) if name.startswith(folder))

    def _finding(self, name: str) -> str:
        try:
            return "" if store.sha256_of(self.path / name) == self.files[name] else f"{name} was altered"
        except FileNotFoundError:
            return f"{name} is missing"


async def build(site: Site, into: Path) -> AsyncIterator[Progress]:
    """Build the site's bundle at `into`, fetching only what no earlier build of this machine has fetched.

    Raises BundleUnbuildable when something cannot be fetched. Stopped anywhere, `into` is as it was and what was fetched is kept.
    """
    began = time.monotonic()
    yield Started(STAGE, "", "gather what hosts need")
    specs = [wheels.WheelSpec.of(site.runtime, site.root, name, site.secure.mode) for name in architectures(site)]
    app = fab.pack(site)
    wanted = {"debs": debs.WANTED, **_further(site)}
    packages = {folder: layout.cache() / "debs" / debs.place(names) for folder, names in wanted.items()}
    for spec in specs:
        async for event in wheels.fetch(spec, spec.store):
            yield event
    if debs.is_possible():
        for folder, names in wanted.items():
            async for event in debs.fetch(packages[folder], names):
                yield event
    else:
        yield Warned(
            STAGE,
            "packages",
            f"this machine runs {debs.release()}, so the bundle carries no Debian packages",
            hint=f"install {' and '.join(_everywhere(site))} on every host{_also(site)}, or build on Debian {debs.RELEASE}",
        )
    bundle, changed = await asyncio.to_thread(_assemble, specs, app, packages, into)
    detail = {"bytes": bundle.size, "files": len(bundle.files), "deps": bundle.deps_hashes, "app_hash": bundle.app_hash}
    what = f"{bundle.size / 1e6:.0f} MB in {len(bundle.files)} files"
    yield Finished(
        STAGE, "", what, changed=changed, seconds=time.monotonic() - began, detail={**detail, "fab_sha256": app.sha256}
    )


def architectures(site: Site) -> list[str]:
    """For which processors the site's bundle carries wheels; a lab's hosts are this machine."""
    if site.infrastructure.module == "lab" or not site.runtime.architectures:
        return [platform.machine()]
    return list(dict.fromkeys(site.runtime.architectures))


def _further(site: Site) -> dict[str, tuple[str, ...]]:
    """Packages of what the site asks for beside what every site needs, by their folder."""
    found: dict[str, tuple[str, ...]] = {"watch": debs.WATCHING} if site.observability.prometheus else {}
    found |= {"exporter": debs.EXPORTING} if site.observability.devices or site.watcher else {}
    return found | ({"tunnel": debs.TUNNEL} if site.isolation.tunnel else {})


def _everywhere(site: Site) -> tuple[str, ...]:
    exporting = debs.EXPORTING if site.observability.devices or site.watcher else ()
    return (*debs.WANTED, *exporting, *(debs.TUNNEL if site.isolation.tunnel else ()))


def _also(site: Site) -> str:
    where = (site.watcher or site.coordinator).name
    return f" and {', '.join(debs.WATCHING)} on {where}" if site.observability.prometheus else ""


def _assemble(specs: list[wheels.WheelSpec], app: fab.Fab, packages: Mapping[str, Path], into: Path) -> tuple[Bundle, bool]:
    """Put the parts together beside `into`, then swap; whether anything changed."""
    deps = {spec.architecture: _sealed(spec.store) for spec in specs}
    code, fetched = source.pack(), {folder: store.read(place) for folder, place in packages.items()}
    linked = _linked({"wheels": list(deps.values()), **{folder: [one] for folder, one in fetched.items() if one is not None}})
    made = {"app/edgefl.tar.gz": code.archive, "app.fab": app.content}
    hashes = {name: file.sha256 for name, (_, file) in linked.items()}
    hashes |= {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    named: dict[str, Dependencies] = {
        architecture: {"hash": stored.digest, "wheels": [file.name for file in stored.files]}
        for architecture, stored in deps.items()
    }

    def bundle(described: str) -> Bundle:
        return Bundle(into, specs[0].python, named, code.sha256, app.sha256, dict(sorted({**hashes, SBOM: described}.items())))

    # What the list of contents says follows from the other files: where those are the same it need not be made anew.
    if _is_there(there := bundle(_described(into)), linked):
        return there, False
    with tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=_existing(into.parent)) as temporary:
        new = Path(temporary) / into.name
        for folder in ("wheels", *packages, "app"):
            (new / folder).mkdir(parents=True)
        for name, (directory, file) in linked.items():
            store.link(directory / file.name, new / name)
        made[SBOM] = sbom.document(new, hashes, app)
        for name, content in made.items():
            (new / name).write_bytes(content)
        whole = bundle(hashlib.sha256(made[SBOM]).hexdigest())
        (new / MANIFEST).write_text(json.dumps(whole.manifest(), indent=2) + "\n")
        if into.exists():
            into.rename(Path(temporary) / "old")
        new.rename(into)
    return whole, True


def _sealed(place: Path) -> store.Stored:
    stored = store.read(place)
    if stored is None:
        raise BundleInvalid(f"{place} changed while the bundle was built", hint="run the command again")
    return stored


def _linked(gathered: Mapping[str, list[store.Stored]]) -> Linked:
    """Every fetched file by its path in the bundle; what several architectures share is there once."""
    found: Linked = {}
    for folder, directories in gathered.items():
        for stored in directories:
            for file in stored.files:
                name = f"{folder}/{file.name}"
                if name in found and found[name][1].sha256 != file.sha256:
                    raise BundleInvalid(f"{file.name} is not the same for every architecture", hint="check pip's index")
                found[name] = (stored.path, file)
    return found


def _described(place: Path) -> str:
    """The hash of the list of contents that lies at `place`; empty where there is none."""
    try:
        return Bundle.load(place).files.get(SBOM, "")
    except BundleInvalid:
        return ""


def _is_there(bundle: Bundle, linked: Linked) -> bool:
    """Whether `bundle.path` already is this bundle: the same manifest, and every file as it was put there."""
    try:
        if Bundle.load(bundle.path) != bundle:
            return False
        fetched = all(_times(bundle.path / name) == (file.size, file.mtime_ns) for name, (_, file) in linked.items())
        return fetched and all(
            store.sha256_of(bundle.path / name) == bundle.files[name] for name in bundle.files if name not in linked
        )
    except (BundleInvalid, FileNotFoundError):
        return False


def _times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _existing(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
