"""Plug a host into the lab's network by the means this kernel has for the link that was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from edgefl.lab import network
from edgefl.lab.capsule import Capsule
from edgefl.lab.cgroups import Group
from edgefl.lab.command import wait_until
from edgefl.lab.failure import LabFailed
from edgefl.lab.network import Link, Port

_WIRE = Path(__file__).with_name("wire.py")


def plug(capsule: Capsule, wire: Group, port: Port, link: Link, *, log: Path) -> None:
    """Have the host's eth0 with this link, instead of the one it had; addresses and hardware addresses stay the same.

    Rates: token buckets on a veth pair. Latency: netem on the same pair where the kernel has it, else a process between two TAP
    interfaces (`wire`), which lives in the control group `wire`. The way by netem has not run yet: the lab was built on a kernel
    without it.
    """
    if not link.latency_ms:
        capsule.run("sh", "-euc", network.veth_script(port) + network.rates_script(port, link))
    elif _has_netem(capsule):
        capsule.run("sh", "-euc", network.veth_script(port) + network.netem_script(port, link))
    else:
        capsule.run("sh", "-euc", network.unplug_script(port))
        python = [sys.executable, "-I", "-S", str(_WIRE)]
        capsule.detach(wire, *python, *network.wire_arguments(port, link), log=log)
        wait_until(lambda: _exists(capsule, port.interface), f"{port.host}'s link (see {log})", deadline_s=10)
        capsule.run("sh", "-euc", network.tap_script(port))


def _has_netem(capsule: Capsule) -> bool:
    """Whether the kernel has netem, loading its module where it is one."""
    try:
        capsule.run("sh", "-euc", "tc qdisc add dev lo root netem delay 1ms && tc qdisc delete dev lo root")
    except LabFailed:
        return False
    return True


def _exists(capsule: Capsule, interface: str) -> bool:
    return f" {interface}:" in capsule.run("ip", "-o", "link", "show")
