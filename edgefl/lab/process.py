"""A process named so that it cannot be mistaken for another one: by number, start time and the machine's boot."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine. `started` is field 22 of /proc/PID/stat, in clock ticks since `boot`."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this number now; None when there is none, or it is ending: it has no namespaces any more then."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            with suppress(PermissionError):  # another user's: it is there
                Path(f"/proc/{pid}/ns/net").readlink()
        except OSError:
            return None
        if fields[0] == "Z":
            return None
        return cls(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip())

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a process that took over its number does not count, nor one from before a reboot."""
        return Process.of(self.pid) == self

    def save(self, path: Path) -> None:
        """Write it as JSON, at once or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.rename(path)

    @classmethod
    def load(cls, path: Path) -> Process | None:
        """The process that `save` wrote, while it is alive; None otherwise."""
        try:
            process = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return process if process.is_alive else None
