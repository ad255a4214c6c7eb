"""The wheels that hosts install: the lock's, plus the torch that the site asks for, fetched once by the operator's own pip.

pip's configuration is respected (index, proxy, certificate, find-links). The lock pins each file's hash; torch is pinned by
version, since its build is the site's choice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import store
from edgefl.progress import Finished, Progress, Started, Step, Warned
from edgefl.site.model import Runtime, Site

STAGE = "bundle"
TORCH_MAX_BYTES = 1_000_000_000
"""A CPU build of torch has 150 to 250 MB; what is larger carries a GPU's libraries to every device."""
PINNED_FOR = ("x86_64", "aarch64")
"""Architectures for which there is a wheel of everything in the lock."""
_GLIBC_MINOR = range(5, 37)
"""manylinux_2_5 up to bookworm's glibc 2.36."""
_TORCH_HINT = (
    "set `runtime.torch` in site.yaml to the index of torch's CPU builds (pytorch.org, Get started, compute platform CPU) "
    "or to the path of a wheel; for the demo: make demo TORCH_INDEX=URL"
)


class BundleUnbuildable(EdgeflError):
    """What hosts need cannot be gathered on this machine."""

    exit_code = ExitCode.BUNDLE_INVALID


class _NoWheel(BundleUnbuildable):
    """pip found no wheel for the hosts' platform. wanted: of what, as `name==version`."""

    def __init__(self, what: str, wanted: str, *, hint: str) -> None:
        super().__init__(what, hint=hint)
        self.wanted = wanted


@dataclass(frozen=True, slots=True)
class WheelSpec:
    """Everything that decides which wheels hosts get.

    torch: `pypi`, an index's URL, or a wheel's absolute path. architecture: as `uname -m` says it.
    """

    lock: Path
    torch: str
    torch_version: str
    python: str
    architecture: str
    more: Path | None = None
    """A second lock, for what only some sites' hosts need."""

    @classmethod
    def of(cls, runtime: Runtime, root: Path, architecture: str, secure_mode: str = "none") -> WheelSpec:
        """The site's wishes; a wheel's path is relative to site.yaml."""
        tag = runtime.python.replace(".", "")
        lock = Path(str(files("edgefl.fleet") / "lock" / f"host-py{tag}.txt"))
        if not lock.is_file():
            raise BundleUnbuildable(f"no wheels are pinned for Python {runtime.python}", hint="set `runtime.python` to 3.11")
        torch = runtime.torch if _is_index(runtime.torch) else str((root / runtime.torch).resolve())
        more = lock.with_name(f"he-py{tag}.txt") if secure_mode == "homomorphic" else None
        return cls(lock, torch, runtime.torch_version, runtime.python, architecture, more)

    @property
    def locks(self) -> tuple[Path, ...]:
        """Everything that is pinned for these hosts."""
        return (self.lock, self.more) if self.more else (self.lock,)

    @property
    def place(self) -> str:
        """A name for these wheels in the cache: another lock, torch, Python or architecture gives another name."""
        parts = [self.lock.read_text(), self.torch, self.torch_version, self.python, self.architecture]
        parts += [self.more.read_text()] if self.more else []
        if not _is_index(self.torch):
            status = _existing_wheel(self.torch).stat()
            parts.append(f"{status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    @property
    def store(self) -> Path:
        """Where this machine keeps these wheels once they are fetched."""
        return layout.cache() / "wheels" / self.place


def foreseen(site: Site) -> Iterator[Warned]:
    """What `up` may refuse of the site's torch, said without asking an index; nothing where the wheels are there already.

    Raises BundleUnbuildable for what no machine can build.
    """
    spec = WheelSpec.of(site.runtime, site.root, platform.machine(), site.secure.mode)
    if store.read(spec.store) is None and spec.torch == "pypi" and spec.architecture == "x86_64":
        what = "is taken from pip's index; the public one's for x86_64 is a CUDA build of gigabytes, and `up` refuses that"
        yield Warned(STAGE, "torch", what, hint=_TORCH_HINT)


async def fetch(spec: WheelSpec, place: Path) -> AsyncIterator[Progress]:
    """Gather the wheels at `place`; nothing happens when they are there. Raises BundleUnbuildable with pip's own reason."""
    async with store.locked(place):
        if store.read(place):
            return
        yield Started(
            STAGE, "wheels", f"fetch wheels for Python {spec.python} on {spec.architecture}", total=_count(spec.lock) + 1
        )
        began = time.monotonic()
        partial = store.begin(place)
        try:
            async for step in _fetch_torch(spec, partial):
                yield step
            for lock in spec.locks:
                async for step in _download(["--require-hashes", "--requirement", str(lock)], spec, partial):
                    yield step
        except _NoWheel as first:
            names = dict.fromkeys([first.wanted, *[name async for name in _unavailable(spec, partial)]])
            raise _nowhere(spec, list(names)) from first
        stored = await asyncio.to_thread(store.seal, partial, place)
        size = sum(file.size for file in stored.files)
        detail = {"bytes": size, "files": len(stored.files)}
        what = f"{len(stored.files)} wheels, {size / 1e6:.0f} MB"
        yield Finished(STAGE, "wheels", what, changed=True, seconds=time.monotonic() - began, detail=detail)


async def _fetch_torch(spec: WheelSpec, into: Path) -> AsyncIterator[Progress]:
    if not _is_index(spec.torch):
        wheel = _existing_wheel(spec.torch)
        await asyncio.to_thread(shutil.copy2, wheel, into / wheel.name)
        yield Step(STAGE, "wheels", wheel.name, changed=True, detail={"bytes": wheel.stat().st_size})
        return
    index = [] if spec.torch == "pypi" else ["--index-url", spec.torch]
    wanted = [*index, f"torch=={spec.torch_version}"]
    if needed := await _gpu_libraries(wanted, spec, into):
        raise BundleUnbuildable(
            f"torch {spec.torch_version} from {_named(spec.torch)} is a GPU build: it needs {len(needed)} more packages "
            f"({', '.join(needed[:3])}, …) with several gigabytes on every device",
            hint=_TORCH_HINT,
        )
    async for step in _download(wanted, spec, into):
        yield step
    _refuse_large(into)


def _refuse_large(directory: Path) -> None:
    for wheel in directory.glob("torch-*.whl"):
        if (size := wheel.stat().st_size) > TORCH_MAX_BYTES:
            wheel.unlink()
            raise BundleUnbuildable(f"{wheel.name} has {size / 1e9:.1f} GB, too much to push to every device", hint=_TORCH_HINT)


async def _gpu_libraries(wanted: list[str], spec: WheelSpec, scratch: Path) -> list[str]:
    """What the resolved torch says it needs from GPU vendors, known before its gigabytes are fetched."""
    report = scratch / "torch-report.json"
    command = [
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        str(report),
        "--target",
        str(scratch / "never"),
    ]
    async for _ in _pip([*command, *_platform(spec), *wanted]):
        pass
    try:
        resolved = json.loads(report.read_text())["install"]
    finally:
        report.unlink(missing_ok=True)
    requirements = resolved[0]["metadata"].get("requires_dist", [])
    names = (
        re.split(r"[^a-zA-Z0-9_-]", requirement, maxsplit=1)[0] for requirement in requirements if "extra ==" not in requirement
    )
    return [name for name in names if name.startswith(("nvidia-", "cuda-"))]


async def _download(arguments: list[str], spec: WheelSpec, into: Path) -> AsyncIterator[Progress]:
    command = ["download", "--dest", str(into), "--progress-bar", "off", *_platform(spec), *arguments]
    async for line in _pip(command):
        if saved := re.match(r"(?:Saved|File was already downloaded) (.+\.whl)$", line):
            wheel = into / Path(saved[1]).name
            yield Step(STAGE, "wheels", wheel.name, changed=line.startswith("Saved"), detail={"bytes": wheel.stat().st_size})


async def _pip(arguments: list[str]) -> AsyncIterator[str]:
    """Run the operator's pip and give its lines as they come; a cancelled reader ends it."""
    process = await asyncio.create_subprocess_exec(
        *_pip_command(),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    errors: list[str] = []
    try:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        async for raw in process.stdout:
            line = raw.decode(errors="replace").strip()
            if line.startswith("ERROR:"):
                errors.append(line.removeprefix("ERROR:").strip())
            yield line
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code:
        reason = errors[-1] if errors else f"pip ended with status {code}"
        what, hint = f"pip could not fetch the wheels: {reason}", "check pip's index, proxy and certificate: pip config list"
        # Nothing is asked for but single versions without their dependencies: a conflict, too, means that there is no wheel.
        none = re.search(r"(?:No matching distribution found for|Cannot install) ([^\s;,]+==[^\s;,]+)", "\n".join(errors))
        if none:
            raise _NoWheel(what, none[1], hint=hint)
        raise BundleUnbuildable(what, hint=hint)


async def _unavailable(spec: WheelSpec, scratch: Path) -> AsyncIterator[str]:
    """What else in the lock has no wheel for these hosts: pip stops at the first, an operator must know all. Fetches none."""
    wanted = scratch / "wanted.txt"
    left = [line.split(" ")[0] for lock in spec.locks for line in lock.read_text().splitlines() if "==" in line]
    command = ["install", "--dry-run", "--ignore-installed", "--quiet", "--target", str(scratch / "never"), *_platform(spec)]
    try:
        while left:
            wanted.write_text("\n".join(left))
            try:
                async for _ in _pip([*command, "--requirement", str(wanted)]):
                    pass
            except _NoWheel as error:
                yield error.wanted
                left = left[left.index(error.wanted) + 1 :] if error.wanted in left else []  # it looks at one after the other
            else:
                return
    finally:
        wanted.unlink(missing_ok=True)


def _nowhere(spec: WheelSpec, names: list[str]) -> BundleUnbuildable:
    what = f"pip's index has no wheel for {spec.architecture} and Python {spec.python} of {', '.join(names)}"
    if spec.architecture in PINNED_FOR:
        return BundleUnbuildable(what, hint="check pip's index, proxy and certificate: pip config list")
    hint = f"hosts of {' and '.join(PINNED_FOR)} have all wheels; others need builds of these with the lock's hashes"
    return BundleUnbuildable(what, hint=hint)


def _pip_command() -> list[str]:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip3") or shutil.which("pip"):
        return [found]
    raise BundleUnbuildable(
        "pip is not there, and hosts get their wheels through it",
        hint=f"{sys.executable} -m ensurepip, or apt install python3-pip",
    )


def _platform(spec: WheelSpec) -> list[str]:
    """The hosts' platform, not this machine's."""
    platforms = [f"manylinux_2_{minor}_{spec.architecture}" for minor in _GLIBC_MINOR] + [
        f"manylinux2014_{spec.architecture}",
        "any",
    ]
    tag = f"cp{spec.python.replace('.', '')}"
    options = ["--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", spec.python]
    options += [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
    return options + [word for platform in platforms for word in ("--platform", platform)]


def _is_index(torch: str) -> bool:
    return torch == "pypi" or "://" in torch


def _named(torch: str) -> str:
    return "pip's index" if torch == "pypi" else re.sub(r"//[^/@]*@", "//", torch)


def _existing_wheel(path: str) -> Path:
    wheel = Path(path)
    if wheel.suffix != ".whl" or not wheel.is_file():
        raise BundleUnbuildable(f"`runtime.torch` names no wheel: {wheel}", hint=_TORCH_HINT)
    return wheel


def _count(lock: Path) -> int:
    return sum("==" in line for line in lock.read_text().splitlines())
