"""The few Debian packages that hosts need beyond a minimal Debian with Python and SSH, fetched by the operator's own apt.

apt checks the signatures of its lists and the hashes of what it downloads. Hosts must run the operator's Debian release; where
the operator runs another system, hosts must have the packages already, and preflight checks that they do.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from edgefl.fleet import store
from edgefl.fleet.wheels import STAGE, BundleUnbuildable
from edgefl.progress import Finished, Progress, Started, Step

WANTED = ("haproxy", "nftables")
"""The gate and the firewall."""
WATCHING = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
"""What watches the federation, where the site asks for it."""
EXPORTING = ("prometheus-node-exporter",)
"""What of it runs on a device, where the site asks for that."""
TUNNEL = ("wireguard-go", "wireguard-tools")
"""What hosts reach each other by, where the site asks for a tunnel; a kernel that has WireGuard needs the tools alone."""
ASSUMED = ("apt", "systemd-sysv", "openssh-server", "python3-minimal")
"""What every host has before edgefl comes; their dependencies need not be carried."""
RELEASE = "bookworm"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}
"""What Debian calls what `uname -m` says."""
_LISTS = Path("/var/lib/apt/lists")
_ISOLATED = [
    "--option=Dir::State::status=/dev/null",
    "--option=Dir::Cache::archives=/nonexistent",
    "--option=APT::Install-Recommends=false",
    "--option=Debug::NoLocking=1",
]
"""Resolve as for an empty machine: what is installed or cached here says nothing about a host."""


@dataclass(frozen=True, slots=True)
class Deb:
    """One package as apt would fetch it; `size` in bytes."""

    name: str
    version: str
    filename: str
    size: int


def release() -> str:
    """The Debian release of this machine, e.g. `bookworm`; another system's name where it is none."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    if about.get("ID") != "debian":
        return about.get("PRETTY_NAME", about.get("ID", "an unknown system"))
    return about.get("VERSION_CODENAME", "debian")


def is_possible() -> bool:
    """Whether this machine can fetch the hosts' packages."""
    return release() == RELEASE and shutil.which("apt-get") is not None


def place(wanted: tuple[str, ...] = WANTED) -> str:
    """A name for these packages in the cache; apt's next update gives another, so that security fixes arrive."""
    newest = max((path.stat().st_mtime_ns for path in _LISTS.glob("*_*")), default=0)
    parts = [RELEASE, platform.machine(), *wanted, *ASSUMED, str(newest)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


async def fetch(place: Path, wanted: tuple[str, ...] = WANTED) -> AsyncIterator[Progress]:
    """Gather the wanted packages at `place`; nothing happens when they are there.

    Raises BundleUnbuildable with apt's own reason.
    """
    async with store.locked(place):
        if store.read(place):
            return
        began = time.monotonic()
        debs = missing(await _closure(wanted), await _closure(await _essential()), await _closure(ASSUMED))
        yield Started(STAGE, "packages", f"fetch {', '.join(wanted)} for Debian {RELEASE}", total=len(debs))
        partial = store.begin(place)
        await _run(
            ["apt-get", "-o", "APT::Sandbox::User=", "-qq", "download", *(f"{deb.name}={deb.version}" for deb in debs)], partial
        )
        for deb in debs:
            yield Step(STAGE, "packages", deb.filename, changed=True, detail={"bytes": deb.size})
        stored = await asyncio.to_thread(store.seal, partial, place)
        size = sum(file.size for file in stored.files)
        detail = {"bytes": size, "files": len(debs)}
        what = f"{len(debs)} packages, {size / 1e6:.1f} MB"
        yield Finished(STAGE, "packages", what, changed=True, seconds=time.monotonic() - began, detail=detail)


def missing(wanted: list[Deb], *present: list[Deb]) -> list[Deb]:
    """The wanted packages that none of the other lists has, by name."""
    have = {deb.name for debs in present for deb in debs}
    return sorted((deb for deb in wanted if deb.name not in have), key=lambda deb: deb.name)


def parse_uris(printed: str) -> list[Deb]:
    """Read `apt-get --print-uris`: a quoted address, the file `NAME_VERSION_ARCH.deb` with %-escapes, its size, maybe a hash."""
    lines = (re.match(r"'[^']+' (([^_ ]+)_([^_ ]+)_[^_ ]+\.deb) (\d+)", line) for line in printed.splitlines())
    return [Deb(found[2], unquote(found[3]), found[1], int(found[4])) for found in lines if found]


async def _closure(names: tuple[str, ...]) -> list[Deb]:
    return parse_uris(await _run(["apt-get", *_ISOLATED, "--print-uris", "-qq", "install", *names], Path("/")))


async def _essential() -> tuple[str, ...]:
    available = await _run(["apt-cache", "dumpavail"], Path("/"))
    stanzas = (
        stanza for stanza in available.split("\n\n") if re.search(r"^(Essential: yes|Priority: required)$", stanza, re.MULTILINE)
    )
    return tuple(sorted({match[1] for stanza in stanzas if (match := re.match(r"Package: (\S+)", stanza))}))


async def _run(command: list[str], directory: Path) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        reason = next(
            (line for line in err.decode(errors="replace").splitlines() if line.startswith("E:")), err.decode(errors="replace")
        )
        raise BundleUnbuildable(f"{command[0]} could not fetch the hosts' packages: {reason.strip()}", hint="sudo apt-get update")
    return out.decode(errors="replace")
