"""What Terraform starts: the provider whose hosts are the lab's."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path

from edgefl.infra.provider.provider import EdgeflProvider, Hosts
from edgefl.infra.provider.server import serve


def _lab(directory: Path, network: IPv4Interface) -> Hosts:
    from edgefl.lab.hosts import Lab

    return Lab(directory, network)


if __name__ == "__main__":
    serve(EdgeflProvider(_lab))
