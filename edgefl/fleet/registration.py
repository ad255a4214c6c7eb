"""How the SuperLink knows devices: asked on the coordinator, by the account that may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgefl import layout
from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import ssh
from edgefl.fleet.finding import Finding
from edgefl.infra.inventory import Host

Standings = Mapping[str, str]
"""By device: `online`, `offline`, `registered`, `another key`, `removed`, `unknown` (federation/flower/register.py)."""
_BAD = {
    "unknown": ("the SuperLink does not know it", "edgefl up registers it"),
    "another key": ("the SuperLink knows another key for it: was its hardware replaced?", "edgefl up registers the new key"),
    "removed": (
        "its key was taken out of the SuperLink, and Flower never takes a key back",
        "on {name}: rm {identity}/node.*, then edgefl up makes and registers a new one",
    ),
}


class SuperLinkSilent(EdgeflError):
    """The coordinator could not say how its SuperLink knows devices."""

    exit_code = ExitCode.MONITOR_UNREACHABLE


async def ask(coordinator: Host, keys: Mapping[str, str]) -> Standings:
    """How the SuperLink knows these devices. keys: OpenSSH public keys by name.

    Raises the errors of `ssh.run`, and SuperLinkSilent.
    """
    environment = [
        "env",
        "--chdir=/",
        "PYTHONPATH=/opt/edgefl/current",
        "FLWR_TELEMETRY_ENABLED=0",
        "/opt/edgefl/venv/bin/python",
    ]
    register = ["-m", "edgefl.federation.flower.register", "--standing", "--nodes", "-", "--wait-s", "5"]
    argv = ["runuser", "--user", layout.USER_LINK, "--", *environment, *register]
    done = await ssh.run(coordinator, argv, json.dumps(dict(keys)).encode())
    try:
        found: dict[str, Any] = json.loads(done.text().splitlines()[-1])
    except (ValueError, IndexError) as error:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        why = reason[0].removeprefix("✖ ") if reason else f"status {done.returncode}"
        raise SuperLinkSilent(why, hint=f"edgefl doctor {coordinator.name}") from error
    return {name: str(how) for name, how in found.items()}


def judge(name: str, how: str) -> Finding:
    """Whether the coordinator would let the device's SuperNode in."""
    if how in _BAD:
        found, fix = _BAD[how]
        return Finding(name, "registration", "bad", found, fix.format(name=name, identity=layout.IDENTITY))
    return Finding(name, "registration", "good", "its key is registered" + (f"; it is {how}" if how != "registered" else ""))
