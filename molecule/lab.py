"""Hosts for molecule, from the lab: `lab.py create|destroy|newer|older SITE DIRECTORY`.

SITE is the scenario's site.yaml; the lab, its bundles and the rendered inventory come to lie in DIRECTORY/.edgefl, where edgefl's
own commands find them, too. `newer` and `older` say which version the inventory is of; nothing of that reaches a host by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

from edgefl.fleet import rendering
from edgefl.fleet.bundle import Bundle
from edgefl.infra.inventory import Host, Inventory
from edgefl.lab.hosts import HostSpec, Lab
from edgefl.lab.image import image
from edgefl.lab.preload import preload
from edgefl.operations import bundle
from edgefl.operations.state import bundle_directory, inventory_file
from edgefl.operations.versions import next_directory
from edgefl.progress import Progress
from edgefl.site import Site, load

FIRST = 9
"""The coordinator's distance from the operator's address; devices follow in the site's order."""
REPOSITORY = Path(__file__).parents[1]
MARK = '\nwith open("/proc/self/comm", "w") as name:\n    name.write("edgefl-newer")\n'
"""What the newer version does otherwise: its processes bear another name, so that a host shows which version it runs."""


def create(site: Site, lab: Lab) -> None:
    """Boot the site's hosts and render their inventory; a second time changes nothing."""
    asyncio.run(_heard(bundle.build(site)))
    lab.use_layer(preload(image(), bundle_directory(site)))
    specs = [
        HostSpec(
            host.name,
            str(IPv4Address(int(site.infrastructure.network.ip) + FIRST + number)),
            "device" if number else "coordinator",
        )
        for number, host in enumerate(site.hosts)
    ]
    with ThreadPoolExecutor() as pool:
        states = list(pool.map(lab.create, specs))
    hosts = [
        Host(state.spec.name, "coordinator" if state.spec.role == "coordinator" else "device", state.spec.address, 22, "root",
             str(lab.key), state.host_key, str(lab.root))
        for state in states
    ]  # fmt: skip
    Inventory(tuple(hosts)).save(inventory_file(site))
    offer(site, bundle_directory(site))


def newer(site: Site) -> Path:
    """Where the bundle of a newer version lies: this code with MARK, which builds it as any other version would."""
    place, code = next_directory(site), site.state / "newer"
    if not place.exists():
        shutil.copytree(REPOSITORY / "edgefl", code / "edgefl", ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("certs", "playbooks", "terraform"):
            (code / part).symlink_to(REPOSITORY / part)
        with (code / "edgefl" / "__init__.py").open("a") as file:
            file.write(MARK)
        build = [sys.executable, "-m", "edgefl", "bundle", "build", "--site", str(site.root), "--output", str(place)]
        subprocess.run(build, check=True, cwd=code, env={**os.environ, "PYTHONPATH": str(code)})
    return place


def offer(site: Site, place: Path) -> None:
    """The inventory is of this bundle's version; says so where it was that already."""
    inventory = site.state / "ansible" / "inventory.json"
    before = inventory.read_bytes() if inventory.exists() else b""
    rendering.write(site, Inventory.load(inventory_file(site)), Bundle.load(place))
    sys.stdout.write("as it was" if inventory.read_bytes() == before else "another version")


async def _heard(events: AsyncIterator[Progress]) -> None:
    async for _ in events:
        pass


def main(action: str, site_file: str, directory: str) -> None:
    """Make the scenario's hosts, say which version they are to run, or take them down."""
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(site_file, place / "site.yaml")
    site = load(place)
    lab = Lab(site.state / "lab", site.infrastructure.network)
    if action == "create":
        create(site, lab)
    elif action == "destroy":
        lab.down()
    else:
        offer(site, newer(site) if action == "newer" else bundle_directory(site))


if __name__ == "__main__":
    main(*sys.argv[1:])
