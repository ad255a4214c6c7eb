"""What edgefl's services wrote to a host's systemd journal, as typed lines.

The coordinator's come from the monitor, which may read journald when its user is in the group systemd-journal.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from edgefl.monitor.errors import Unavailable

Level = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
LEVELS: tuple[Level, ...] = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
UNITS = (
    *(f"edgefl-{name}" for name in ("superlink", "superexec", "monitor", "gate", "supernode", "watchdog", "renewal")),
    *(f"edgefl-{name}" for name in ("prometheus", "alertmanager", "node-exporter")),
    "walls-edgefl",
    "nftables-edgefl",
)
"""edgefl's services on any host. Named one by one: journalctl fails on a pattern that nothing has matched yet."""
MOST_LINES = 10_000
"""Old lines that a host is asked for at once."""
MOST_TEXT = 200
"""Characters of a text that lines are looked through for."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Flower colours what it logs, also where nobody's terminal is (ECMA-48, SGR)."""
_LONGEST = 8192
"""Characters of a message that are kept."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a service's log. trace: the stack that an error was raised on, where its service said so."""

    at: datetime
    host: str
    unit: str
    level: Level
    message: str
    trace: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "at": self.at.isoformat()}

    def to_json(self) -> str:
        """As NDJSON carries it."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> LogLine:
        """What `to_json` wrote; ValueError, KeyError or TypeError when it is something else."""
        said = json.loads(text)
        fields = (said["host"], said["unit"], said["level"], said["message"], said.get("trace", ""))
        return cls(datetime.fromisoformat(said["at"]), *fields)

    def has(self, text: str) -> bool:
        """Whether the text is anywhere in it, small letters or capitals."""
        return text.casefold() in f"{self.message}\n{self.trace}".casefold()


@dataclass(frozen=True, slots=True)
class Hearing:
    """Whether a host's log can be read: `problem` says why not, and is empty once its lines come again."""

    host: str
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: the newest `lines` since a time, as important as `level` at least, and new ones with `follow`.

    text: what they must have in them; looked for in a host's newest MOST_LINES, by who reads them, for its services write fields.
    """

    follow: bool = False
    since: datetime | None = None
    level: Level = "info"
    lines: int = 200
    text: str = ""

    def command(self) -> list[str]:
        """The journalctl that gives them, as an argument list without a shell."""
        argv = ["journalctl", "--output=json", "--no-pager", *(f"--unit={unit}" for unit in UNITS)]
        argv += [f"--priority={self.level}", f"--lines={MOST_LINES if self.text else self.lines}"]
        if self.since is not None:
            argv.append(f"--since=@{self.since.timestamp():.6f}")
        # To follow means this boot alone, unless journals are merged; what a service takes for it may be another than journald's:
        # in a namespace of its own it reads the machine's, not the container's.
        return [*argv, "--follow", "--merge"] if self.follow else argv

    def of(self, found: list[LogLine]) -> list[LogLine]:
        """The newest of old lines, oldest first, that were looked for."""
        return [line for line in found if line.has(self.text)][-self.lines :] if self.lines else []


def parse(line: str, host: str) -> LogLine | None:
    """A line of `journalctl --output=json`; None when it is none. See systemd.journal-fields(7)."""
    try:
        said: dict[str, Any] = json.loads(line)
        at = datetime.fromtimestamp(int(said["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        priority = int(said.get("PRIORITY", 6))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    unit = said.get("_SYSTEMD_UNIT")
    if unit in {None, "init.scope"}:  # what systemd itself says of a unit
        unit = said.get("UNIT") or unit or said.get("SYSLOG_IDENTIFIER")
    unit = str(unit or "").removesuffix(".service")
    message, trace = _fields(_text(said.get("MESSAGE")))
    return LogLine(at, host, unit, LEVELS[min(max(priority, 0), 7)], message[:_LONGEST], trace[-_LONGEST:])


async def require_journald(host: str) -> None:
    """Raises Unavailable, with what journalctl says, when the logs of this host cannot be read."""
    child = await _journalctl(Wanted(lines=1).command(), host, stderr=asyncio.subprocess.PIPE)
    _, said = await child.communicate()
    if child.returncode != 0:
        why = said.decode(errors="replace").strip().splitlines() or ["journalctl failed"]
        raise Unavailable(
            f"the logs of {host} cannot be read: {why[0]}", hint="the monitor's user must be in the group systemd-journal"
        )


async def journald(wanted: Wanted, host: str) -> AsyncIterator[LogLine]:
    """The lines of this host, which `host` names. The child that reads them ends with the iterator."""
    child = await _journalctl(wanted.command(), host)
    assert child.stdout is not None  # noqa: S101 — asked for
    # A text is looked for in many lines, of which the newest few are wanted.
    kept: deque[LogLine] | None = deque(maxlen=wanted.lines) if wanted.text and not wanted.follow else None
    try:
        async for raw in child.stdout:
            line = parse(raw.decode(errors="replace"), host)
            if line is None or not line.has(wanted.text):
                continue
            if kept is None:
                yield line
            else:
                kept.append(line)
        for line in kept or ():
            yield line
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _journalctl(argv: list[str], host: str, *, stderr: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr, limit=1 << 20
        )
    except OSError as error:
        raise Unavailable(f"{host} has no journalctl: {error.strerror}") from error


def _text(message: object) -> str:
    """A message is a string, an array of bytes when it is no UTF-8, or null when it is too large."""
    if isinstance(message, list):
        message = bytes(byte for byte in message if isinstance(byte, int) and 0 <= byte < 256).decode(errors="replace")
    return _COLOUR.sub("", str(message or ""))


def _fields(text: str) -> tuple[str, str]:
    """The message, and an error's trace, of a line that its service wrote as fields (voice.py; haproxy.cfg, walls.py).

    Whose line it is and how important, journald alone says.
    """
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):
            said = json.loads(text)
            if isinstance(said.get("message"), str) and "ecs.version" in said:
                return said["message"], str(said.get("error.stack_trace", ""))
    return text, ""
