"""The services' logs of the coordinator and the devices, merged by time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.ink import Ink, Tone, ink, join
from edgefl.console.lines import MOST_HOSTS, Entry, Lines, short
from edgefl.console.live import Frame
from edgefl.console.pages.whole import Whole
from edgefl.console.query import Query, apart
from edgefl.console.sources import Sources
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.filterline import FilterLine
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet
from edgefl.console.widgets.tail import Tail
from edgefl.monitor.logs import LEVELS, LogLine
from edgefl.monitor.since import moment

_BAD = frozenset(LEVELS[: LEVELS.index("warning")])
_DOT = ink(" · ", Tone.MUTED)


class Logs(GridView):
    """Lines as they are written; whoever goes up reads in peace."""

    NAME = "Logs"
    WHAT = (
        "What the services wrote, merged by time. Going up stops following, end follows again. "
        "l reads the host of the row alone, a reads all; since:10m in the filter reads from then on. Enter opens the line whole."
    )
    BINDINGS: ClassVar[list[BindingType]] = [LOGS, Binding("a", "all", "Read all hosts", show=False)]

    def __init__(self) -> None:
        self._tail = Tail[Entry](
            COLUMNS, lambda entry: str(entry.number), empty="no lines yet", fields=lambda entry: entry.fields
        )
        super().__init__(self._tail)
        self._sheet = Sheet()
        self._lines: Lines | None = None
        self._names: tuple[str, ...] = ()
        self._since: datetime | None = None
        self._since_said = ""
        self._misunderstood = ""
        self._is_reading = False
        self._is_frozen = False
        self._shown = 0

    def take(self, sources: Sources) -> None:
        """Where lines come from."""
        self._lines = Lines(sources.logs, sources.told) if sources.logs is not None else None

    def above(self) -> Iterable[Widget]:
        """What is read, and whether it is followed."""
        yield self._sheet

    def show(self, frame: Frame) -> None:
        """Start to read when the view is seen for the first time; then show what has come."""
        lines = self._lines
        if lines is None:
            why = (
                "the monitor gives no logs to this console"
                if frame.is_live
                else "a recording has no logs: they stay on the hosts"
            )
            self._sheet.show([ink(f" {why}", Tone.MUTED)])
            return
        if not self._is_reading:
            self.read(self._names)
        self._is_frozen = frame.is_paused
        self._grow(lines)
        self._sheet.show(self._state(lines))

    def read(self, names: Sequence[str]) -> None:
        """Read these hosts from now on; without names, all."""
        self._names = tuple(names)
        if self._lines is not None:
            self._is_reading, self._shown = True, self._lines.arrived
            self._tail.show([])
            self._tail.action_follow()
            self.run_worker(self._lines.follow(self._names, self._since), group="logs", exclusive=True)

    def query_of(self, text: str) -> Query:
        """The filter without `since:`, which is not for what is held, but for who reads."""
        return Query(apart(text, "since")[1])

    def on_filter_line_left(self, message: FilterLine.Left) -> None:
        """Read from the moment on that the filter names: when it is entered, for every letter of it would open connections."""
        said, _ = apart(message.value, "since")
        self._misunderstood = ""
        if said != self._since_said:
            try:
                self._since = moment(said, datetime.now(UTC)) if said else None
            except ValueError as error:
                self._misunderstood = f"since: {error}"
            else:
                self._since_said = said
                self.read(self._names)
        self.on_tail_turned()

    def action_all(self) -> None:
        """Read every host."""
        self.read(())

    def copied(self, row: Entry) -> str:
        """The line as it was written."""
        return row.line.message

    def device_of(self, row: Entry) -> str:
        """The host that wrote it."""
        return row.line.host

    def on_tail_turned(self) -> None:
        """What stands above the lines says so at once."""
        if self._lines is not None:
            self._grow(self._lines)
            self._sheet.show(self._state(self._lines))

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the line, whole."""
        entry = next((entry for entry in self._tail.rows if self._tail.key_of(entry) == message.key), None)
        if entry is not None:
            line = entry.line
            fields = {"time": line.at.astimezone().isoformat(), "host": line.host, "unit": line.unit, "level": line.level}
            said = [("message", line.message), *([("trace", line.trace)] if line.trace else [])]
            self.post_message(self.Open(Whole(f"{line.host} {short(line.unit)}", [*fields.items(), *said])))

    def _grow(self, lines: Lines) -> None:
        if self._tail.is_following and not self._is_frozen and lines.arrived != self._shown:
            self._shown = lines.arrived
            self._tail.grow(list(lines.held))
            self._tell()

    def _state(self, lines: Lines) -> list[Ink]:
        """Which hosts, how many lines, following or not; and who cannot be read."""
        if lines.problem:
            return [ink(f" ! {lines.problem}", Tone.WARN)]
        newer = lines.arrived - self._shown
        follows = ink("● following", Tone.GOOD)
        came = f", {figures.count(newer)} new" if newer else ""
        stands = ink(f"‖ scrolled back{came}: end follows", Tone.WARN)
        what = [
            follows if self._tail.is_following else stands,
            ink(_hosts(lines)),
            ink("a reads all" if self._names else "", Tone.MUTED),
            ink(f"since {self._since.astimezone():%m-%d %H:%M:%S}" if self._since else ""),
            ink(f"{figures.count(len(lines.held))} lines", Tone.MUTED),
        ]
        wrong = [ink(f"! {self._misunderstood}", Tone.WARN)] if self._misunderstood else []
        return [ink(" ") + line for line in (join(what, _DOT), *wrong, *(_lost(lines) if lines.lost else ()))]


def _hosts(lines: Lines) -> str:
    if lines.left_out:
        return f"{len(lines.hosts)} of {len(lines.hosts) + lines.left_out} hosts: mark up to {MOST_HOSTS} in Fleet, then l"
    if len(lines.hosts) <= 3:
        return ", ".join(lines.hosts) or "looking for hosts"
    return f"{len(lines.hosts)} hosts"


def _lost(lines: Lines) -> list[Ink]:
    first, *others = lines.lost.values()
    why = join([ink(first.problem, Tone.WARN), ink(f"next: {first.hint}" if first.hint else "", Tone.MUTED)], _DOT)
    if not others:
        return [(*ink("! ", Tone.WARN), *why)]
    return [ink(f"! {len(lines.lost)} hosts cannot be read: {', '.join(lines.lost)}", Tone.WARN), (*ink("  "), *why)]


def _level(line: LogLine) -> Ink:
    if line.level in _BAD:
        return ink(f"✖ {line.level}", Tone.BAD)
    return ink(f"! {line.level}", Tone.WARN) if line.level == "warning" else ink(f"  {line.level}", Tone.MUTED)


def _message(line: LogLine) -> Ink:
    return ink(line.message, Tone.BAD if line.level in _BAD else Tone.WARN if line.level == "warning" else Tone.PLAIN)


COLUMNS: tuple[Column[Entry], ...] = (
    Column(
        "day", "DAY", 5, lambda entry, _: ink(f"{entry.line.at.astimezone():%m-%d}", Tone.MUTED), lambda entry: entry.place,
        5, right=False, raw=lambda entry: f"{entry.line.at.astimezone():%Y-%m-%d}",
    ),
    Column(
        "time", "TIME", 8, lambda entry, _: ink(f"{entry.line.at.astimezone():%H:%M:%S}", Tone.MUTED), lambda entry: entry.place,
        right=False, raw=lambda entry: entry.line.at.isoformat(),
    ),
    Column(
        "host", "HOST", 11, lambda entry, _: ink(entry.line.host, Tone.ACCENT), lambda entry: entry.line.host,
        right=False, most=16,
    ),
    Column(
        "unit", "UNIT", 10, lambda entry, _: ink(short(entry.line.unit), Tone.MUTED), lambda entry: entry.line.unit, 3,
        right=False,
    ),
    Column(
        "level", "LEVEL", 9, lambda entry, _: _level(entry.line), lambda entry: LEVELS.index(entry.line.level), 2, right=False,
        raw=lambda entry: entry.line.level,
    ),
    Column(
        "message", "MESSAGE", 40, lambda entry, _: _message(entry.line), lambda entry: entry.line.message, right=False, most=1000,
    ),
)  # fmt: skip
