"""What a host is, in one JSON object: read by preflight and doctor. Runs as root on the host, changes nothing.

With the argument `services` it also says how edgefl's services, firewall and certificate stand.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

CERTIFICATES = tuple(f"/etc/edgefl/identity/{name}" for name in ("device.crt", "gate.crt", "gate.pem", "scraper.crt"))
"""What a host is known by, the first that it has: a device, the coordinator, the host that watches."""
_NO_LIMIT = 1 << 50


def free_mb(path: str) -> int:
    """Free MiB where `path` is or would be."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free >> 20


def memory_mb() -> int:
    """The host's memory in MiB, or its control group's limit where that is smaller."""
    with Path("/proc/meminfo").open() as lines:
        total = next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemTotal:"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            allowed = int(Path(limit).read_text())
        except (OSError, ValueError):
            continue
        if allowed < _NO_LIMIT:
            total = min(total, allowed >> 20)
    return total


def release() -> dict[str, str]:
    """What the system calls itself (os-release(5))."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines if "=" in line)}


def distribution(release: dict[str, str]) -> str:
    """`debian`, `ubuntu`, `raspberry pi os` (whose 64-bit edition calls itself Debian), or what else it calls itself."""
    if release.get("ID") == "raspbian" or Path("/etc/rpi-issue").exists():
        return "raspberry pi os"
    return release.get("ID", "")


def accelerators() -> list[str]:
    """What could compute beside the processor, by the drivers' device files: `nvidia`, `amd`, `coral`."""
    places = {"nvidia": "/dev/nvidia0", "amd": "/dev/kfd", "coral": "/dev/apex_0"}
    return [name for name, path in places.items() if Path(path).exists()]


def certificate() -> str:
    """The host's own certificate chain in PEM without its key; empty when it has none."""
    for path in CERTIFICATES:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        kept, inside = [], False
        for line in lines:
            inside = inside or line.startswith("-----BEGIN CERTIFICATE")
            if inside:
                kept.append(line)
            inside = inside and not line.startswith("-----END CERTIFICATE")
        return "\n".join(kept) + "\n"
    return ""


def services() -> list[dict[str, str]]:
    """Each of edgefl's units as systemd sees it."""
    listed = output(["systemctl", "list-unit-files", "--no-legend", "--plain", "edgefl-*.service", "tunnel-edgefl.service"])
    names = [line.split()[0] for line in listed.splitlines() if line.strip() and "@" not in line.split()[0]]
    if not names:
        return []
    shown = output(["systemctl", "show", "-p", "Id,Type,ActiveState,SubState,Result,NRestarts,UnitFileState", *names])
    return [dict(line.split("=", 1) for line in unit.splitlines() if "=" in line) for unit in shown.split("\n\n") if unit.strip()]


def firewall() -> list[dict[str, str]]:
    """Each base chain of edgefl's nftables tables, with its hook and policy."""
    try:
        entries = json.loads(output(["nft", "-j", "list", "chains"]))["nftables"]
    except (ValueError, KeyError):
        return []
    chains = (entry["chain"] for entry in entries if "chain" in entry)
    return [
        {"table": chain["table"], "name": chain["name"], "hook": chain["hook"], "policy": chain.get("policy", "accept")}
        for chain in chains
        if "hook" in chain and chain["table"].startswith("edgefl")
    ]


def walls() -> str:
    """`as loaded`: the live rules are those of edgefl's file, as the kernel itself reads it in a namespace of no other use.

    `altered` where they are not; empty where that cannot be told.
    """
    listing = ["nft", "--stateless", "list", "table", "inet", "edgefl"]
    script = f"nft --file /etc/edgefl/firewall.nft && exec {' '.join(listing)}"
    expected = output(["unshare", "--net", "sh", "-euc", script])
    if not expected:
        return ""
    return "as loaded" if output(listing) == expected else "altered"


def output(command: list[str]) -> str:
    """A command's standard output; empty when it is missing or fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def main() -> None:
    """Print the facts."""
    system = release()
    facts = {
        "python": platform.python_version(),
        "uid": os.geteuid(),
        "architecture": platform.machine(),
        "glibc": platform.libc_ver()[1],
        "release": system.get("VERSION_CODENAME", system.get("PRETTY_NAME", "")),
        "distribution": distribution(system),
        "accelerators": accelerators(),
        "kernel": platform.release(),
        "cores": os.cpu_count() or 1,
        "memory_mb": memory_mb(),
        "free_mb": {path: free_mb(path) for path in ("/opt", "/var", "/tmp")},  # noqa: S108 - asked about, not used
        "has_systemd": Path("/run/systemd/system").is_dir(),
        "commands": [
            name for name in ("nft", "haproxy", "systemctl", "ip") if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        ],
    }
    if "services" in sys.argv:
        facts.update(certificate=certificate(), services=services(), firewall=firewall(), walls=walls())
    facts["time"] = time.time()  # last: the operator compares it with the moment of the answer
    sys.stdout.write(json.dumps(facts) + "\n")


main()
