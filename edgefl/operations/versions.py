"""Which version hosts run, which they ran before, and whether the operator holds them to one: bundles in the site's state.

bundle            what hosts run; `up` builds it anew, unless the site is held to it
bundle.next       what an upgrade brings, until every host runs it
bundle.previous   what hosts ran before, for the way back; hosts keep it, too
held.json         why `up` builds no other: a newer version was taken back, or this one was chosen
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from edgefl.operations.stage import chained
from edgefl.operations.state import bundle_directory
from edgefl.progress import Progress, Warned
from edgefl.site.model import Site


def next_directory(site: Site) -> Path:
    """Where an upgrade's bundle lies until every host runs it."""
    return bundle_directory(site).with_name("bundle.next")


def previous_directory(site: Site) -> Path:
    """What hosts ran before."""
    return bundle_directory(site).with_name("bundle.previous")


def held(site: Site) -> str:
    """Why the site is held to the bundle that it has; empty when it is not."""
    try:
        return str(json.loads(_record(site).read_text())["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def hold(site: Site, why: str) -> None:
    """Keep `up` from building another bundle."""
    fresh = _record(site).with_suffix(".new")
    fresh.write_text(json.dumps({"why": why}) + "\n")
    fresh.replace(_record(site))


def release(site: Site) -> None:
    """Let `up` build what the operator's own edgefl is."""
    _record(site).unlink(missing_ok=True)


def adopt(site: Site) -> None:
    """The next bundle is what hosts run now, and what they ran becomes the previous one."""
    _swap(site, next_directory(site))


def revert(site: Site) -> None:
    """The previous bundle is what hosts run again; what they ran is kept as the previous one."""
    _swap(site, previous_directory(site))


async def gathered(site: Site) -> AsyncIterator[Progress]:
    """Have the bundle that hosts are to run: built anew, or as it is where the site is held to it."""
    from edgefl.fleet import bundle

    place = bundle_directory(site)
    if (why := held(site)) and place.exists():
        version = bundle.Bundle.load(place).version
        yield Warned(
            bundle.STAGE,
            "",
            f"hosts stay with version {version}: {why}",
            hint="edgefl upgrade brings the version that is installed here",
        )
        return
    async for event in chained(bundle.build(site, place)):
        yield event


def _record(site: Site) -> Path:
    return site.state / "held.json"


def _swap(site: Site, other: Path) -> None:
    """Exchange the bundle in use with `other`, which becomes it; stopped in between, one of the two is in `.bundle.old`."""
    current, previous = bundle_directory(site), previous_directory(site)
    aside = current.with_name(".bundle.old")
    shutil.rmtree(aside, ignore_errors=True)
    current.rename(aside)
    other.rename(current)
    shutil.rmtree(previous, ignore_errors=True)
    aside.rename(previous)
