"""Hosts for molecule, from the lab: `lab.py create|destroy SITE DIRECTORY`.

SITE is the scenario's site.yaml; the lab, the bundle and the rendered inventory come to lie in DIRECTORY/.edgefl.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

from edgefl.fleet import bundle, rendering, signature
from edgefl.infra.inventory import Host, Inventory
from edgefl.lab.hosts import HostSpec, Lab
from edgefl.lab.image import image
from edgefl.lab.preload import preload
from edgefl.pki.authority import Authority
from edgefl.site import Site, load

FIRST = 9
"""The coordinator's distance from the operator's address; devices follow in the site's order."""


def create(site: Site, lab: Lab) -> None:
    """Boot the site's hosts and render their inventory; a second time changes nothing."""
    package = asyncio.run(_built(site))
    lab.use_layer(preload(image(), package.path))
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
    rendering.write(site, Inventory(tuple(hosts)), package)


async def _built(site: Site) -> bundle.Bundle:
    async for _ in bundle.build(site, site.state / "bundle"):
        pass
    package = bundle.Bundle.load(site.state / "bundle")
    signature.sign(package, Authority.open(site.state, site=site))
    return package


def main(action: str, site_file: str, directory: str) -> None:
    """Make the scenario's hosts, or take them down."""
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(site_file, place / "site.yaml")
    site = load(place)
    lab = Lab(site.state / "lab", site.infrastructure.network)
    if action == "create":
        create(site, lab)
    else:
        lab.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
