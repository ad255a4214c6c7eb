"""SSH from the operator's machine to a lab host, host key checking on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from edgefl.lab.hosts import Lab
from edgefl.lab.spec import HostState


def ssh_argv(lab: Lab, host: HostState, *command: str) -> list[str]:
    """The ssh command that logs in as root, or runs `command` there. Nothing of the user's own ssh configuration takes part."""
    return ["ssh", *ssh_options(lab.root), f"root@{host.spec.address}", *command]


def ssh_options(capsule: Path) -> list[str]:
    """Options for ssh (or scp, sftp, rsync's -e): the lab's key, its known hosts, and the way into its network."""
    proxy = shlex.join([sys.executable, "-m", "edgefl.lab.nsproxy", str(capsule)]).replace("%", "%%")
    options = {
        "ProxyCommand": f"{proxy} %h %p",
        "ProxyUseFdpass": "yes",
        "IdentityFile": str(capsule / "ssh/id_ed25519"),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(capsule / "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "PasswordAuthentication": "no",
        "LogLevel": "ERROR",
    }
    return ["-F", "none", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
