"""systemd units as they are on this host."""

from __future__ import annotations

import json
import os
import time

from ansible_collections.edgefl.host.plugins.module_utils.process import run

_PROPERTIES = (
    "LoadState,ActiveState,SubState,Result,UnitFileState,NeedDaemonReload,NRestarts,Job,"
    "ExecMainStartTimestampMonotonic,ActiveEnterTimestampMonotonic,FragmentPath,DropInPaths"
)


def states(names):
    """{unit: {"exists", "enabled", "active", "state", "queued", "restarts", "started", "defined", "reload"}}.

    queued: a job of it waits, so that what it starts from is not read yet.
    restarts: how often systemd brought it back since somebody started it.
    started: when its main process began (a timer: when it became active), in seconds of the wall clock; 0 for never.
    defined: when the newest of the unit's own files changed. reload: systemd has not read the newest of them.
    """
    if not names:
        return {}
    _, shown, _ = run(["systemctl", "show", "--property=" + _PROPERTIES, *[_full(name) for name in names]])
    booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    return {name: _state(block, booted) for name, block in zip(names, blocks)}


def changed_at(paths):
    """When the newest of these last changed (links: the link itself); 0 when none exists."""
    return max([os.lstat(path).st_mtime for path in paths if os.path.lexists(path)] or [0.0])


def last_words(name, lines=12):
    """The end of a unit's journal, for an operator to read."""
    said = run(["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={_full(name)}"], check=False)[1]
    return "\n".join(text(line) for line in said.strip().splitlines())


def text(line):
    """What a line says, where its service wrote it as fields."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    return said["message"] if isinstance(said, dict) and isinstance(said.get("message"), str) else line


def _full(name):
    return name if "." in name else name + ".service"


def _state(block, booted):
    is_timer = block.get("FragmentPath", "").endswith(".timer")
    started = int(block.get("ActiveEnterTimestampMonotonic" if is_timer else "ExecMainStartTimestampMonotonic") or 0) / 1e6
    files = [path for path in [block.get("FragmentPath", ""), *block.get("DropInPaths", "").split()] if path]
    return {
        "exists": block["LoadState"] == "loaded",
        "enabled": block.get("UnitFileState") in ("enabled", "static"),
        "active": block["ActiveState"] == "active",
        "state": f"{block['ActiveState']} ({block['SubState']}, {block['Result']})",
        "queued": bool(block.get("Job")) and block["ActiveState"] != "activating",
        "restarts": int(block.get("NRestarts") or 0),
        "started": booted + started if started else 0.0,
        "defined": changed_at(files),
        "reload": block.get("NeedDaemonReload") == "yes",
    }
