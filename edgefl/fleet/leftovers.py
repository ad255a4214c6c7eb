"""What a playbook's run leaves when it is cut: processes with sessions of their own, which a kill of its group does not reach."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "AWX_ISOLATED_DATA_DIR"
"""The variable by which ansible-runner tells each run's processes where its record lies; no two runs share it."""
_LOOKS = 3
"""A process may be born while the others are killed; what the kernel holds back longer than this would hold the operator too."""
_PATIENCE_MS = 5_000


def end(record: Path) -> None:
    """Kill every process of the run whose record lies there, and wait until they have ended.

    Each of Ansible's workers calls setsid(2), so one that waits for a host would go on with it after its playbook is gone.
    """
    mark = f"{MARK}={record}".encode()
    for _ in range(_LOOKS):
        left = list(_marked(mark))
        for process in left:
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                signal.pidfd_send_signal(process, signal.SIGKILL)
        for process in left:
            ended = select.poll()
            ended.register(process, select.POLLIN)
            ended.poll(_PATIENCE_MS)
            os.close(process)
        if not left:
            return


def _marked(mark: bytes) -> Iterator[int]:
    """Descriptors of the processes whose environment has the mark: a number alone may be another process's a moment later."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            descriptor = os.pidfd_open(int(entry.name))
            try:
                is_ours = mark in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                is_ours = False
            if is_ours:
                yield descriptor
            else:
                os.close(descriptor)
