"""The audit: every action, decision, certificate, proof and run, from the hash-chained journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.worker import Worker

from edgefl.console import figures
from edgefl.console.audit import Deed, deed
from edgefl.console.ink import EMPTY, Ink, Tone, ink, join
from edgefl.console.live import Frame
from edgefl.console.pager import Pager
from edgefl.console.pages.whole import Whole, of_event
from edgefl.console.sources import Sources
from edgefl.console.view import GridView
from edgefl.console.widgets.columns import Column
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.sheet import Sheet
from edgefl.errors import EdgeflError
from edgefl.events.chain import Head, JournalBroken, Walked
from edgefl.events.schema import Event

_DOT = ink(" · ", Tone.MUTED)
_AHEAD = 50
"""Rows below the cursor at which older ones are fetched."""
_BAR = 20


class Audit(GridView):
    """Entries, the newest first; V checks the chain that they are in."""

    NAME = "Audit"
    WHAT = (
        "Who did or decided what, the newest first: operators, policy, certificates, isolation, runs, budgets, audits. "
        "V reads the whole journal and checks every hash. Enter opens an event with its hash."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("V", "verify", "Verify chain", tooltip="Verify the hash chain, or stop")]

    def __init__(self) -> None:
        super().__init__(
            Grid[Deed](COLUMNS, lambda row: str(row.event.seq), empty="nothing was done or decided yet", fields=Deed.fields)
        )
        self._sheet = Sheet()
        self._sources: Sources | None = None
        self._pager: Pager | None = None
        self._deeds: dict[int, Deed] = {}
        self._drawn: tuple[int, ...] = ()
        self._fetching: Worker[None] | None = None
        self._walking: Worker[None] | None = None
        self._verdict: Ink = ink("V reads the whole journal and checks every hash", Tone.MUTED)

    def take(self, sources: Sources) -> None:
        """Where the past is."""
        self._sources = sources
        if sources.archive is not None:
            self._pager = Pager(sources.archive, sources.told)

    def above(self) -> Iterable[Widget]:
        """What is held, and how far the chain was verified."""
        yield self._sheet

    def show(self, frame: Frame) -> None:
        """Bring the entries up to this frame; ask for older ones when they are needed."""
        until = frame.state.seq if frame.is_paused else 0
        if self._pager is not None and frame.state.seq:
            self._pager.begin(frame.diary.since)
        drawn = (frame.diary.noted, frame.diary.since, len(self._past), until)
        if drawn != self._drawn:
            self._drawn = drawn
            self._list([*self._heard(frame, until), *(self._past if frame.diary.is_whole else ())])
        if self._pager is not None and self._wants_more(frame, self._pager):
            self._fetching = self.run_worker(self._pager.fetch(), group="past")
        self._sheet.show([ink(" ") + line for line in (self._held(frame), self._verdict)])

    @property
    def _past(self) -> Sequence[Event]:
        return self._pager.held if self._pager is not None else ()

    def _heard(self, frame: Frame, until: int) -> list[Event]:
        return [event for event in reversed(frame.diary.events) if not until or event.seq <= until]

    def _list(self, events: Sequence[Event]) -> None:
        """The events as rows; those that were rows already stay the same, so that a filter need not look at them again."""
        self._deeds = {event.seq: self._deeds.get(event.seq) or deed(event) for event in events}
        self.grid.show(list(self._deeds.values()))

    def _wants_more(self, frame: Frame, pager: Pager) -> bool:
        """Near the end of what is held, or behind a filter, which must not pass over what was never fetched."""
        if not frame.state.seq or pager.is_all or pager.is_full or (self._fetching is not None and self._fetching.is_running):
            return False
        return bool(self.grid.filter) or self.grid.below < _AHEAD

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There must be a journal to be verified."""
        if action == "verify":
            return self._sources is not None and self._sources.archive is not None
        return super().check_action(action, parameters)

    def action_verify(self) -> None:
        """Walk the chain, or stop walking."""
        if self._walking is not None and self._walking.is_running:
            self._walking.cancel()
        else:
            self._walking = self.run_worker(self._verify(), group="verify")

    async def _verify(self) -> None:
        if self._sources is None or self._sources.archive is None:
            return
        walked = Walked(1, Head(), 0)
        seen = {seq: row.event.hash for seq, row in self._deeds.items()}
        self._say(ink("verifying …", Tone.ACCENT))
        try:
            async with aclosing(self._sources.archive.walk(seen)) as walk:
                async for walked in walk:
                    self._say(_progress(walked))
            self._say(_holds(walked))
        except JournalBroken as broken:
            self._say((*ink(f"✖ broken at event {broken.seq}: {broken.why}", Tone.BAD), *ink(f"; {broken.hint}", Tone.MUTED)))
        except EdgeflError as error:
            self._say(ink(f"! not verified: {error.what}", Tone.WARN))
        except asyncio.CancelledError:
            self._say(
                ink(f"! stopped at {figures.count(walked.head.seq)} of {figures.count(walked.last)}: V begins again", Tone.WARN)
            )
            raise

    def _say(self, verdict: Ink) -> None:
        self._verdict = verdict
        if self._sources is not None:
            self._sources.told()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the event, whole."""
        row = self._deeds.get(int(message.key))
        if row is not None:
            self.post_message(self.Open(Whole(f"event {row.event.seq}", of_event(row.event))))

    def copied(self, row: Deed) -> str:
        """The event's hash: what tells somebody else which event is meant."""
        return row.event.hash

    def _held(self, frame: Frame) -> Ink:
        """How many entries there are, and whether that is all."""
        pager, whole = self._pager, frame.diary.is_whole
        if not frame.is_live:
            rest = "all that the recording has" if whole else "older ones were too many to be held"
        elif pager is None or not whole or pager.is_full:
            rest = "older ones are in the journal: edgefl rounds --record FILE"
        else:
            rest = "all that the journal has" if pager.is_all else "older ones come as you go down"
        broken = ", ".join(map(str, pager.broken)) if pager is not None else ""
        return join(
            [
                (*ink(f"{figures.count(len(self._deeds))} entries"), *ink(f", {rest}", Tone.MUTED)),
                ink(f"✖ not as it was hashed: event {broken}", Tone.BAD) if broken else EMPTY,
                ink(f"! {pager.problem}", Tone.WARN) if pager is not None and pager.problem else EMPTY,
            ],
            _DOT,
        )


def _progress(walked: Walked) -> Ink:
    done = (walked.head.seq - walked.first + 1) / max(1, walked.last - walked.first + 1)
    seqs = f" {figures.count(walked.head.seq)} of {figures.count(walked.last)} hold, V stops"
    return (*ink("verifying ", Tone.ACCENT), *figures.line(done, _BAR), *ink(seqs))


def _holds(walked: Walked) -> Ink:
    span = f"from event {figures.count(walked.first)} to {figures.count(walked.head.seq)}"
    return (*ink(f"✓ the chain holds {span}", Tone.GOOD), *ink(f", which has the hash {walked.head.hash[:12]}", Tone.MUTED))


COLUMNS: tuple[Column[Deed], ...] = (
    Column(
        "time", "TIME", 14, lambda row, _: ink(f"{row.event.at.astimezone():%m-%d %H:%M:%S}", Tone.MUTED),
        lambda row: row.event.seq, right=False, descending=True, raw=lambda row: row.event.at.isoformat(),
    ),
    Column("who", "WHO", 11, lambda row, _: ink(row.who, Tone.ACCENT), lambda row: row.who, right=False, most=24),
    Column("action", "ACTION", 21, lambda row, _: ink(row.action, row.tone), lambda row: row.action, right=False, most=26),
    Column("subject", "SUBJECT", 10, lambda row, _: ink(row.subject, Tone.STRONG), lambda row: row.subject, right=False, most=24),
    Column(
        "why", "WHY", 10, lambda row, _: ink(row.why, Tone.MUTED), lambda row: row.why or None, 1, right=False, most=100,
        raw=lambda row: row.why,
    ),
    Column("seq", "SEQ", 6, lambda row, _: ink(str(row.event.seq), Tone.MUTED), lambda row: row.event.seq, 2, descending=True),
)  # fmt: skip
