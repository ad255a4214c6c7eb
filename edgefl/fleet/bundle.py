"""Everything that hosts need, in one directory: devices never see the internet.

manifest.json     every file with its SHA-256, and the three hashes that say what changed
wheels/*.whl      what edgefl depends on         → deps_hash
debs/*.deb        haproxy, nftables and what they need
app/edgefl.tar.gz edgefl's own code              → app_hash
app.fab           the Flower app with the task   → fab_sha256

A bundle appears whole or not at all, and is the same for the same input; wheels and packages are fetched once for all sites.
"""

from __future__ import annotations

import asyncio
import json
import platform
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import debs, fab, source, store, wheels
from edgefl.progress import Finished, Progress, Started, Warned
from edgefl.site.model import Site

MANIFEST = "manifest.json"
STAGE = wheels.STAGE


class BundleInvalid(EdgeflError):
    """The bundle is missing, or is not what its manifest says."""

    exit_code = ExitCode.BUNDLE_INVALID


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk, as its manifest describes it.

    deps_hash: the wheels, for Python `python` on `architecture`. app_hash: edgefl's code. fab_sha256: the Flower app.
    files: path in the bundle → SHA-256.
    """

    path: Path
    python: str
    architecture: str
    deps_hash: str
    app_hash: str
    fab_sha256: str
    files: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read the manifest. Raises BundleInvalid when there is none that can be read."""
        try:
            about: dict[str, Any] = json.loads((path / MANIFEST).read_text())
            return cls(path, **{name: about[name] for name in cls.__slots__ if name != "path"})
        except FileNotFoundError:
            raise BundleInvalid(f"there is no bundle at {path}", hint="edgefl up builds it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleInvalid(f"{path / MANIFEST} cannot be read: {error!r}", hint=f"rm -r {path}, then edgefl up") from error

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
        findings += [f"{name} is not in the manifest" for name in sorted(present - {*self.files, MANIFEST})]
        if wrong := [finding for finding in findings if finding]:
            raise BundleInvalid(
                f"the bundle {self.path} is corrupt: {'; '.join(wrong)}", hint=f"rm -r {self.path}, then edgefl up"
            )

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says."""
        return {"version": 1, **{name: getattr(self, name) for name in self.__slots__ if name != "path"}}

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
    spec = wheels.WheelSpec.of(site.runtime, site.root, platform.machine(), site.secure.mode)
    app = fab.pack(site)
    packages = layout.cache() / "debs" / debs.place()
    async for event in wheels.fetch(spec, spec.store):
        yield event
    if debs.is_possible():
        async for event in debs.fetch(packages):
            yield event
    else:
        yield Warned(
            STAGE,
            "packages",
            f"this machine runs {debs.release()}, so the bundle carries no Debian packages",
            hint=f"install {' and '.join(debs.WANTED)} on every host, or build on Debian {debs.RELEASE}",
        )
    bundle, changed = await asyncio.to_thread(_assemble, spec, app, packages, into)
    size = sum((into / name).stat().st_size for name in bundle.files)
    detail = {"bytes": size, "files": len(bundle.files), "deps_hash": bundle.deps_hash, "app_hash": bundle.app_hash}
    what = f"{size / 1e6:.0f} MB in {len(bundle.files)} files"
    yield Finished(
        STAGE, "", what, changed=changed, seconds=time.monotonic() - began, detail={**detail, "fab_sha256": app.sha256}
    )


def _assemble(spec: wheels.WheelSpec, app: fab.Fab, packages: Path, into: Path) -> tuple[Bundle, bool]:
    """Put the parts together beside `into`, then swap; whether anything changed."""
    gathered = {"wheels": store.read(spec.store), "debs": store.read(packages)}
    code = source.pack()
    files = {f"{folder}/{file.name}": file for folder, stored in gathered.items() if stored for file in stored.files}
    made = {"app/edgefl.tar.gz": code.archive, "app.fab": app.content}
    stored_wheels = gathered["wheels"]
    if stored_wheels is None:
        raise BundleInvalid(f"{spec.store} changed while the bundle was built", hint="run the command again")
    with tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=_existing(into.parent)) as temporary:
        new = Path(temporary) / into.name
        for folder in ("wheels", "debs", "app"):
            (new / folder).mkdir(parents=True)
        for name, content in made.items():
            (new / name).write_bytes(content)
        hashes = {name: file.sha256 for name, file in files.items()} | {name: store.sha256_of(new / name) for name in made}
        bundle = Bundle(
            into, spec.python, spec.architecture, stored_wheels.digest, code.sha256, app.sha256, dict(sorted(hashes.items()))
        )
        if _is_there(bundle, files):
            return bundle, False
        for folder, stored in gathered.items():
            for file in stored.files if stored else ():
                store.link(stored.path / file.name, new / folder / file.name)  # type: ignore[union-attr]  # a file has its directory
        (new / MANIFEST).write_text(json.dumps(bundle.manifest(), indent=2) + "\n")
        if into.exists():
            into.rename(Path(temporary) / "old")
        new.rename(into)
    return bundle, True


def _is_there(bundle: Bundle, linked: dict[str, store.StoredFile]) -> bool:
    """Whether `bundle.path` already is this bundle: the same manifest, and every file as it was put there."""
    try:
        if Bundle.load(bundle.path) != bundle:
            return False
        fetched = all(_times(bundle.path / name) == (file.size, file.mtime_ns) for name, file in linked.items())
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
