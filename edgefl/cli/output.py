"""How a command speaks: live lines on a terminal, plain lines in CI, one JSON object a line with --json."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgefl.errors import EdgeflError
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.status import Status

_PIPE_COLUMNS = 180
_STEERING = re.compile(r"[\x7f-\x9f]")
"""Control characters that JSON lets stand as they are."""


class Output:
    """Where progress, results and errors go. Results are for stdout, errors for stderr; with --json all is stdout's."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.with_differences = False
        """Whether a step that changes something is followed by what differs."""
        self.is_terminal = sys.stdout.isatty() and not as_json
        self._began: dict[str, float] = {}
        self._status: Status | None = None

    def progress(self, event: Progress) -> None:
        """Show one event of an operation."""
        if self.as_json:
            self._write_json(event.as_dict())
            return
        if isinstance(event, Started) and not event.subject:
            self._began[event.stage] = time.monotonic()
        line = self._line(event)
        if line:
            self._console.print(line, highlight=False, soft_wrap=True)
        if self.with_differences and isinstance(event, Step) and event.changed:
            from edgefl.cli.difference import difference

            for text in difference(event):
                self._console.print(text, highlight=False, soft_wrap=True)
        if self.is_terminal:
            self._show_current(event)

    async def stream(self, events: AsyncIterator[Progress]) -> list[Progress]:
        """Show every event of an operation as it comes, and return them all."""
        seen: list[Progress] = []
        try:
            async for event in events:
                self.progress(event)
                seen.append(event)
        finally:
            self.quiet()
        return seen

    def result(self, mapping: Mapping[str, Any], text: str | RenderableType = "") -> None:
        """Show what a command found: `mapping` with --json, else `text`."""
        self.quiet()
        if self.as_json:
            self._write_json(mapping)
        elif text:
            wraps = isinstance(text, str)
            shown = self._console.render_str(text, highlight=False) if isinstance(text, str) else text
            self._console.print(Inert(shown), highlight=False, soft_wrap=wraps)

    def error(self, error: EdgeflError) -> None:
        """Show what went wrong, where, why, and what to do next."""
        self.quiet()
        if self.as_json:
            self._write_json(error.as_dict())
            return
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, highlight=False)
        first, *rest = error.lines()
        console.print(Text(printable(first), "bold red"), soft_wrap=True)
        for line in rest:
            console.print(Text(printable(line), "bold" if line.startswith("  next:") else "dim"), soft_wrap=True)

    def quiet(self) -> None:
        """End the live line, so that whatever is printed next stands alone."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    @property
    def _console(self) -> Console:
        console: Console | None = getattr(self, "_rich", None)
        if console is None:
            from rich.console import Console

            # A file or a pipe has no width of its own; a table cut to 80 columns there would lose what it says.
            console = self._rich = Console(highlight=False, width=None if self.is_terminal else _PIPE_COLUMNS)
            console.on_broken_pipe = _reader_left  # type: ignore[method-assign]  # Rich would end the process with 1
        return console

    def _line(self, event: Progress) -> str:
        subject = f" [cyan]{safe(event.subject)}[/]" if event.subject else ""
        what = safe(event.what)
        match event:
            case Started(subject=""):
                return f"[bold]▸ {event.stage}[/] {what}"
            case Finished(subject=""):
                now = time.monotonic()
                seconds = event.seconds or now - self._began.get(event.stage, now)
                return f"[green]✔[/] [bold]{event.stage}[/] {what} [dim]{seconds:.1f} s[/]"
            case Finished():
                return f"  [green]✔[/]{subject} {what}"
            case Failed():
                shown = f"  [red]✖[/]{subject} {what}" + (f": {safe(event.why)}" if event.why else "")
                return shown + (f"\n    next: {safe(event.hint)}" if event.hint else "")
            case Warned():
                return f"  [yellow]![/]{subject} {what}" + (f"\n    next: {safe(event.hint)}" if event.hint else "")
            case Step(changed=True):
                return f"  [yellow]~[/]{subject} {what}"
        return ""

    def _show_current(self, event: Progress) -> None:
        text = f"{event.stage} {safe(event.subject)} [dim]{safe(event.what)}[/]"
        if isinstance(event, Finished) and not event.subject:
            self.quiet()
        elif self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    @staticmethod
    def _write_json(mapping: Mapping[str, Any]) -> None:
        text = json.dumps(mapping, default=_plain, ensure_ascii=False)
        print(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)  # noqa: T201  # what --json is for


class Inert:
    """What is printed of a result, without what would steer the terminal: reasons in it are a device's own words, names are the
    coordinator's, and either may be in somebody else's hands.
    """

    def __init__(self, shown: RenderableType) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The renderable's own segments; colours are no part of their text."""
        from rich.segment import Segment

        for segment in console.render(self._shown, options):
            text = segment.text
            if segment.control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), segment.style)


def _reader_left() -> NoReturn:
    raise BrokenPipeError


def safe(text: str) -> str:
    """Text from elsewhere (a device's own words among it) that neither marks up nor steers the terminal."""
    from rich.markup import escape

    return escape(printable(text))


def _plain(value: object) -> object:
    match value:
        case datetime() | date():
            return value.isoformat()
        case Path():
            return str(value)
        case set() | frozenset() | tuple():
            return list(value)
    return str(value)
