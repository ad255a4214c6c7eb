"""A look at every host before anything is changed: can it be reached, and is it fit? All hosts at once, one round trip each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Literal

from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import debs, facts
from edgefl.fleet.bundle import Bundle
from edgefl.fleet.facts import Facts
from edgefl.infra.inventory import Host, Inventory
from edgefl.progress import Failed, Finished, Progress, Started
from edgefl.site.model import Preflight, Site

STAGE = "preflight"
KNOWN = ("debian", "ubuntu", "raspberry pi os")
"""Systems that hosts may run, as remote/facts.py calls them; the role `preflight` has the same by their ID in os-release."""
_GLIBC = (2, 28)
"""What the newest wheels of the lock are built against."""


class PreflightFailed(EdgeflError):
    """Hosts are not fit, and the site says that then nothing is changed."""

    exit_code = ExitCode.PREFLIGHT_FAILED


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that makes a host unfit, and how it is put right."""

    what: str
    fix: str
    kind: Literal["clock", "other"] = "other"


async def check(
    site: Site, inventory: Inventory, fit: list[str] | None = None, *, bundle: Bundle | None = None
) -> AsyncIterator[Progress]:
    """Look at every host; the names of the fit ones are appended to `fit`, in the inventory's order.

    Raises PreflightFailed when a host is unfit and the site says `stop`, when the coordinator is, or when too few are left.
    """
    began = time.monotonic()
    yield Started(STAGE, "", "look at every host", total=len(inventory.hosts))
    looks = [asyncio.create_task(_look(host, site, bundle)) for host in inventory.hosts]
    unfit: dict[str, list[Problem]] = {}
    try:
        for look in asyncio.as_completed(looks):
            host, found, problems = await look
            if problems:
                unfit[host.name] = problems
                yield Failed(STAGE, host.name, "is not fit", why="; ".join(p.what for p in problems), hint=problems[0].fix)
            else:
                yield Finished(STAGE, host.name, "is fit", detail=_shown(found))
    finally:
        for look in looks:
            look.cancel()
    names = [host.name for host in inventory.hosts if host.name not in unfit]
    judge(site, inventory, unfit)
    if fit is not None:
        fit.extend(names)
    yield Finished(STAGE, "", f"{len(names)} of {len(inventory.hosts)} hosts are fit", seconds=time.monotonic() - began)


def judge(site: Site, inventory: Inventory, unfit: dict[str, list[Problem]]) -> None:
    """Raise PreflightFailed unless the site may go on without the unfit hosts."""
    if not unfit:
        return
    named = "; ".join(f"{name}: {', '.join(problem.what for problem in problems)}" for name, problems in unfit.items())
    fix = next(problem.fix for problems in unfit.values() for problem in problems)
    if site.preflight.on_failure == "stop":
        raise PreflightFailed(f"not fit, so nothing was changed: {named}", hint=fix)
    if inventory.coordinator.name in unfit:
        raise PreflightFailed(f"the coordinator is not fit: {named}", hint=fix)
    left = sum(device.name not in unfit for device in inventory.devices)
    if left < site.quorum:
        raise PreflightFailed(f"only {left} devices are fit, and the quorum is {site.quorum}: {named}", hint=fix)


def problems(host: Host, found: Facts, wanted: Preflight, *, python: str, bundle: Bundle | None = None) -> Iterator[Problem]:
    """What is wrong with a host that could be reached, the worst first."""
    name = host.name
    if not found.python.startswith(f"{python}."):
        yield Problem(
            f"runs Python {found.python}, and the site's wheels are for {python}", f"on {name}: apt install python{python}"
        )
    if abs(found.skew_s) > wanted.max_clock_skew_s:
        direction = "ahead" if found.skew_s > 0 else "behind"
        fix = f"on {name}: timedatectl set-ntp true, or date -s '@{time.time():.0f}'"
        yield Problem(
            f"its clock is {abs(found.skew_s):.0f} s {direction}, at most {wanted.max_clock_skew_s:g} s are allowed", fix, "clock"
        )
    for path, free in found.free_mb.items():
        if free < wanted.min_disk_mb:
            yield Problem(
                f"{free} MiB are free on {path}, {wanted.min_disk_mb} are needed", f"on {name}: du -xsh {path}/* | sort -h"
            )
    if found.distribution not in KNOWN:
        what = f"runs {found.distribution or 'an unknown system'}, and edgefl knows {', '.join(KNOWN[:-1])} and {KNOWN[-1]}"
        yield Problem(what, "install one of them, or leave it out of site.yaml")
    if found.memory_mb < wanted.min_memory_mb:
        yield Problem(
            f"has {found.memory_mb} MiB of memory, {wanted.min_memory_mb} are needed",
            "give it more, or leave it out of site.yaml",
        )
    if not found.has_systemd:
        yield Problem("does not run systemd, and services need it", f"boot {name} with systemd as its init")
    yield from _platform_problems(host, found, bundle)


def _platform_problems(host: Host, found: Facts, bundle: Bundle | None) -> Iterator[Problem]:
    if tuple(int(part) for part in found.glibc.split(".")[:2] if part.isdigit()) < _GLIBC:
        yield Problem(f"has glibc {found.glibc or 'of no version'}, 2.28 is needed", "run Debian 11 or newer")
    if bundle is None:
        return
    if found.architecture not in bundle.deps:
        yield Problem(
            f"is {found.architecture}, and the bundle holds wheels for {' and '.join(bundle.deps)}",
            f"add {found.architecture} to runtime.architectures in site.yaml",
        )
    needed = {"nft", "haproxy"} if host.role == "coordinator" else {"nft"}
    lacking = sorted(needed - set(found.commands))
    if lacking and not any(deb.stem.endswith(f"_{debs.ARCHITECTURES.get(found.architecture)}") for deb in bundle.debs):
        yield Problem(
            f"lacks {' and '.join(lacking)}, and the bundle carries no Debian packages for it",
            f"on {host.name}: apt install haproxy nftables",
        )
    elif lacking and found.release != debs.RELEASE:
        yield Problem(
            f"lacks {' and '.join(lacking)}, and the bundle's packages are for {debs.RELEASE}, not {found.release}",
            f"on {host.name}: apt install haproxy nftables",
        )


async def _look(host: Host, site: Site, bundle: Bundle | None) -> tuple[Host, Facts | None, list[Problem]]:
    try:
        found = await facts.gather(host)
    except EdgeflError as error:
        return host, None, [Problem(error.what.removeprefix(f"{host.name} "), error.hint)]
    return host, found, list(problems(host, found, site.preflight, python=site.runtime.python, bundle=bundle))


def _shown(found: Facts | None) -> dict[str, object]:
    if found is None:
        return {}
    names = ("architecture", "cores", "memory_mb", "release", "python", "skew_s", "distribution", "accelerators")
    return {name: getattr(found, name) for name in names}
