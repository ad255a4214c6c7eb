"""Which labs stand on this machine, and the one setting of it that they share.

systemd needs a few inotify instances per host and the kernel's default of 128 is used up at about 19 hosts: it is raised while
any lab stands and put back when the last one is gone. A lab that crashed does not count as standing.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgefl.lab.locks import locked
from edgefl.lab.machine import RUN
from edgefl.lab.process import Process
from edgefl.lab.reach import CAPSULE_FILE

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 8192


def stands(root: Path) -> None:
    """Count the lab in `root` (its capsule runs), and let the machine have enough inotify instances for it."""
    with locked(RUN / "machine.lock"):
        labs, before = _load()
        current = int(INSTANCES.read_text())
        if current < ENOUGH:
            before = current
            INSTANCES.write_text(str(ENOUGH))
        _save(labs | {str(root)}, before)


def is_gone(root: Path) -> None:
    """Count the lab no more; after the last one the machine is as it was."""
    with locked(RUN / "machine.lock"):
        labs, before = _load()
        others = {lab for lab in labs - {str(root)} if Process.load(Path(lab) / CAPSULE_FILE)}
        if not others and before is not None:
            INSTANCES.write_text(str(before))
            before = None
        _save(others, before)


def _load() -> tuple[set[str], int | None]:
    try:
        state = json.loads((RUN / "labs.json").read_text())
    except FileNotFoundError:
        return set(), None
    return set(state["labs"]), state["inotify_instances_before"]


def _save(labs: set[str], before: int | None) -> None:
    file = RUN / "labs.json"
    if labs:
        file.write_text(json.dumps({"labs": sorted(labs), "inotify_instances_before": before}) + "\n")
    else:
        file.unlink(missing_ok=True)
