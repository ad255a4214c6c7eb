"""The host speaks to its operator alone: its firewall first, then its services. Runs as root on a device, in two steps.

Reads one JSON object. {"step": "cut", "ruleset": …, "units": […], "guard_s": …} applies the ruleset behind a timer that restores
the old one, has the units stopped and disabled, and prints {"changed": …, "unconfirmed": …, "bare": …}. {"step": "keep"}, asked
over a connection of its own, disarms the timer: whoever can ask that still gets in. Nothing else on the host is touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CONFIG = Path("/etc/edgefl")
RULESET = CONFIG / "firewall.nft"
FRESH = CONFIG / "firewall.nft.unconfirmed"
ROLLBACK = Path("/run/edgefl-cutoff-rollback.nft")
GUARD = "edgefl-cutoff-rollback"
_LIST = ["nft", "--stateless", "list", "table", "inet", "edgefl"]
_ENVIRONMENT = {**os.environ, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def run(argv: list[str], *, check: bool = True) -> str:
    """A command's output; what it complained of ends the program where `check`."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    if check and done.returncode:
        sys.exit(f"{' '.join(argv[:3])} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def expected(path: Path) -> str:
    """How the kernel lists the table after loading `path`, tried in a network namespace of no other use."""
    return run(["unshare", "--net", "sh", "-euc", f'nft --file "$1" && exec {" ".join(_LIST)}', "sh", str(path)])


def write(path: Path, content: str) -> None:
    """A file that root alone reads, on the disk before anything else happens."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def wall(ruleset: str, guard_s: int) -> bool:
    """Apply the ruleset behind the guard, unless it holds already; whether anything differed."""
    before = run(_LIST, check=False)
    write(FRESH, ruleset)
    if before == expected(FRESH):
        FRESH.replace(RULESET)
        return False
    write(ROLLBACK, "table inet edgefl\ndelete table inet edgefl\n" + before)
    run(["systemctl", "stop", GUARD + ".timer"], check=False)
    guard = [f"--on-active={guard_s}", "--timer-property=AccuracySec=1s", "--unit=" + GUARD]
    run(["systemd-run", "--quiet", "--collect", *guard, "nft", "--file", str(ROLLBACK)])
    run(["nft", "--file", str(FRESH)])
    return True


def at_rest(units: list[str]) -> bool:
    """Have the units stop and never start by themselves; whether any did."""
    shown = run(["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *units])
    states = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    there = [state for state in states if state["LoadState"] == "loaded"]
    busy = [s["Id"] for s in there if s["ActiveState"] not in ("inactive", "failed") or s["UnitFileState"] == "enabled"]
    if busy:
        run(["systemctl", "disable", "--quiet", *busy])
        run(["systemctl", "stop", "--no-block", *busy])  # a training that is in hand takes a while to end
    return bool(busy)


def keep() -> None:
    """Make it last."""
    run(["systemctl", "stop", GUARD + ".timer"], check=False)
    if FRESH.exists():
        FRESH.replace(RULESET)
    if ROLLBACK.exists():
        ROLLBACK.unlink()


def main() -> None:
    """One of the two steps."""
    asked = json.loads(sys.stdin.read())
    said = {"changed": False, "unconfirmed": False, "bare": not CONFIG.is_dir()}
    if asked["step"] == "keep":
        keep()
    elif not said["bare"]:
        said["unconfirmed"] = wall(asked["ruleset"], asked["guard_s"])
        said["changed"] = at_rest(asked["units"]) or said["unconfirmed"]
    print(json.dumps(said))  # noqa: T201 — the operator's side reads it


if __name__ == "__main__":
    main()
