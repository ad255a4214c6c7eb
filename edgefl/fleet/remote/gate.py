"""The gate lets revoked certificates in no more, on the disk and at once where it runs. Runs as root on the coordinator.

Reads one JSON object, {"crl": PEM, "serials": [as haproxy writes them], "names": [whose end of the tunnel is cut]}, and prints
{"live": whether the gate runs, "ended": how many live connections of these certificates it ended}. A second time it changes
nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

CRL = Path("/etc/edgefl/identity/crl.pem")
ACL = Path("/etc/edgefl/gate/revoked.acl")
TUNNEL = Path("/etc/edgefl/tunnel.json")
"""Who may use the tunnel, where the site has one; whoever keeps it up reads that again within 2 s."""
MASTER = "/run/edgefl-gate/master.sock"
_ANSWERS_WITHIN_S = 5.0
_ENDS_WITHIN_S = 5.0


class GateFailed(Exception):
    """The gate runs, and did not do what it was told."""


def replace(path: Path, content: str) -> None:
    """Put a public file in place by a rename, on the disk before anything else happens; alone where it says something else."""
    if path.exists() and path.read_text() == content:
        return
    fresh = path.with_name(path.name + ".edgefl-new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o644)
    fresh.replace(path)


def cut(names: list[str]) -> None:
    """From now on the tunnel knows nothing of these; whoever is released is known by another key."""
    if TUNNEL.exists():
        told = json.loads(TUNNEL.read_text())
        told["peers"] = {name: peer for name, peer in told["peers"].items() if name not in names}
        replace(TUNNEL, json.dumps(told, indent=4, sort_keys=True) + "\n")


def said(command: str) -> str:
    """What haproxy's master answers to a command."""
    with socket.socket(socket.AF_UNIX) as master:
        master.settimeout(_ANSWERS_WITHIN_S)
        master.connect(MASTER)
        master.sendall(command.encode() + b"\n")
        master.shutdown(socket.SHUT_WR)
        parts = []
        while part := master.recv(65536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace").strip()


def workers() -> list[str]:
    """Every worker's process id, those too that a reload left behind with their connections."""
    lines = [line.split() for line in said("show proc").splitlines()]
    return [words[0] for words in lines if len(words) > 1 and words[1] == "worker"]


def refuse(worker: str, crl: str, serials: list[str]) -> None:
    """From now on the worker answers no request under these certificates."""
    known = {line.split()[1] for line in said(f"@!{worker} show acl {ACL}").splitlines() if len(line.split()) > 1}
    for serial in serials:
        if serial not in known and (complaint := said(f"@!{worker} add acl {ACL} {serial}")):
            raise GateFailed(f"haproxy refuses the serial {serial}: {complaint}")
    # New connections end in the handshake then. Where the list is longer than haproxy's buffer, each request is refused instead.
    if "transaction" in said(f"@!{worker} set ssl crl-file {CRL} <<\n{crl.strip()}\n"):
        said(f"@!{worker} commit ssl crl-file {CRL}")


def living(worker: str, serials: set[str]) -> list[str]:
    """The worker's sessions under these certificates. The gate's table has `serial address:port` of every request in hand."""
    places = set()
    for line in said(f"@!{worker} show table clients").splitlines():
        _, _, rest = line.partition(" key=")
        key, use, _ = rest.partition(" use=")
        serial, _, place = key.replace("\\ ", " ").partition(" ")
        if use and serial in serials:
            places.add(place)
    sessions = [line.split() for line in said(f"@!{worker} show sess").splitlines()]
    return [words[0].rstrip(":") for words in sessions if len(words) > 2 and words[2].removeprefix("src=") in places]


def end(worker: str, serials: list[str]) -> int:
    """End what lives under these certificates; how many that were."""
    ended: set[str] = set()
    gives_up = time.monotonic() + _ENDS_WITHIN_S
    while found := living(worker, set(serials)):
        if time.monotonic() > gives_up:
            raise GateFailed(f"{len(found)} connections of revoked certificates do not end")
        for session in found:
            said(f"@!{worker} shutdown session {session}")
        ended.update(found)
    return len(ended)


def main() -> None:
    """Files first: what is on the disk holds through every restart."""
    asked = json.loads(sys.stdin.read())
    replace(CRL, asked["crl"])
    replace(ACL, "".join(serial + "\n" for serial in asked["serials"]))
    cut(asked["names"])
    try:
        there = workers()
    except (FileNotFoundError, ConnectionRefusedError):  # it does not run, and reads the files when it starts
        there = []
    try:
        for worker in there:
            refuse(worker, asked["crl"], asked["serials"])
        ended = sum(end(worker, asked["serials"]) for worker in there)
    except (GateFailed, OSError) as failure:
        sys.exit(str(failure))
    print(json.dumps({"live": bool(there), "ended": ended}))  # noqa: T201 — the operator's side reads it


if __name__ == "__main__":
    main()
