"""One device: what it is, how its services are, what it may still spend, what was found about it, and its last rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from edgefl.console import figures
from edgefl.console.ink import EMPTY, Ink, Tone, ink, join
from edgefl.console.lines import LogSource
from edgefl.console.live import Frame
from edgefl.console.pages.updates import EVIDENCE, ROUND, Part
from edgefl.console.sources import Sources
from edgefl.console.view import LOGS, GridView
from edgefl.console.widgets.canvas import Series
from edgefl.console.widgets.grid import Grid
from edgefl.console.widgets.plot import Plot
from edgefl.console.widgets.sheet import Sheet
from edgefl.console.widgets.states import certificate_tone, epsilon_tone, state_ink
from edgefl.errors import EdgeflError
from edgefl.fleet.finding import Finding
from edgefl.monitor.device import DeviceRow, Flag
from edgefl.monitor.round import UpdateRow

_DOT = ink(" · ", Tone.MUTED)
_FLAGS_SHOWN = 3
_ASKED_S = 30.0
"""How often the device is asked for its services."""


class DevicePage(GridView):
    """A device, live."""

    WHAT = "One device: facts, services, budget, certificate, isolation, flags with their evidence, and its part in each round."
    OF_DEVICES = True
    BINDINGS: ClassVar[list[BindingType]] = [
        LOGS,
        Binding("v", "plots", "Plots", tooltip="Plots of its rounds: accuracy, score against threshold, update norm"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__(
            Grid[Part]((ROUND, *EVIDENCE), lambda part: str(part.round), empty="no rounds of this device in this run")
        )
        self._sheet = Sheet(hang=11)
        self._name_of_device = name
        self._sources: Sources | None = None
        self._services: Sequence[Finding] | EdgeflError | None = None
        self._accuracy = Plot("accuracy here", floor=0.0, ceiling=1.0)
        self._scores = Plot("score", floor=0.0, note="╌ threshold  ✖ over it")
        self._norms = Plot("update norm", floor=0.0)

    @property
    def title(self) -> str:
        """The device's name."""
        return self._name_of_device

    def above(self) -> Iterable[Widget]:
        """The facts, and its rounds as plots; a low terminal shows these when they are asked for."""
        yield self._sheet
        yield Horizontal(self._accuracy, self._scores, self._norms, classes="plots")

    def take(self, sources: Sources) -> None:
        """Its services are asked for on the device itself."""
        self._sources = sources

    def on_mount(self) -> None:
        """Ask for as long as somebody looks."""
        if self._sources is not None and self._sources.logs is not None:
            self._ask(self._sources.logs, self._sources.told)

    @work(group="services")
    async def _ask(self, source: LogSource, told: Callable[[], None]) -> None:
        while True:
            try:
                self._services = await source.services(self._name_of_device)
            except EdgeflError as error:
                self._services = error
            told()
            await asyncio.sleep(_ASKED_S)

    def show(self, frame: Frame) -> None:
        """Bring the page up to this frame."""
        row = frame.state.devices.get(self._name_of_device)
        if row is None:
            self._sheet.show([ink(" this device is not in the federation (any more)", Tone.WARN)])
            return
        self._sheet.show(
            [
                ink(" ") + line
                for line in (*facts(row, frame), *self._told(), *flags(row, 24 if self.size.width >= 100 else 12), EMPTY)
            ]
        )
        rounds = frame.state.rounds
        parts = [Part(done.number, done.updates[row.name]) for done in rounds if row.name in done.updates]
        self.grid.show(parts[::-1])
        self._accuracy.show(*course(parts, lambda update: update.accuracy, 3))
        self._scores.show(*course(parts, lambda update: update.score, over=True))
        self._norms.show(*course(parts, lambda update: update.norm))

    def action_plots(self) -> None:
        """Show the plots, or leave their place to the table."""
        self.toggle_class("-plots")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where there is room they are always there."""
        return not (action == "plots" and self.screen.has_class("-tall")) and super().check_action(action, parameters)

    def _told(self) -> list[Ink]:
        """How its services are; nothing where they cannot be asked for."""
        if self._sources is None or self._sources.logs is None:
            return []
        return services(self._services)

    @property
    def devices(self) -> Sequence[str]:
        """The page's own device, whatever row has the cursor."""
        return [self._name_of_device]

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Enter: the round, with every device's update beside this one's."""
        from edgefl.console.pages.round import RoundPage  # the two pages lead to each other

        self.post_message(self.Open(RoundPage(int(message.key))))


def course(
    parts: Sequence[Part], field: Callable[[UpdateRow], float | None], digits: int = 2, *, over: bool = False
) -> tuple[Series, Ink]:
    """A measure of one device's updates over rounds, and its last value.

    over: with the last threshold as a level, and a mark at each round whose update went over its own.
    """
    known = [(part, value) for part in parts if (value := field(part.update)) is not None and isfinite(value)]
    points = tuple((float(part.round), value) for part, value in known)
    limits = [part.update.threshold for part, _ in known if part.update.threshold is not None] if over else []
    marks = (
        float(part.round)
        for part, value in known
        if limits and part.update.threshold is not None and value > part.update.threshold
    )
    said = ink(figures.number(known[-1][1], digits), Tone.ACCENT) if known else ink("no value yet", Tone.MUTED)
    return Series(points, level=limits[-1] if limits else None, marks=tuple(marks)), said


def facts(row: DeviceRow, frame: Frame) -> list[Ink]:
    """State, hardware, trust and budget, a line each."""
    return [
        join([state_ink(row.state), ink(row.detail, Tone.MUTED)], ink("  ")),
        _labelled("host", [row.address, row.architecture, _cores(row), _memory(row), _system(row), *row.accelerators]),
        (*_label("identity"), *join([_certificate(row, frame), _isolation(row)], _DOT)),
        (*_label("work"), *join([_seen(row, frame), *_work(row)], _DOT)),
        (*_label("privacy"), *_privacy(row)),
        *([(*_label("left out"), *ink(f"of the last up: {row.unfit}", Tone.WARN))] if row.unfit else []),
    ]


def services(found: Sequence[Finding] | EdgeflError | None) -> list[Ink]:
    """Each service with how it is, and what to do about one that is not well; or why that is not known."""
    if found is None:
        return [(*_label("services"), *ink("asked over SSH …", Tone.MUTED))]
    if isinstance(found, EdgeflError):
        return [(*_label("services"), *ink(f"! not known: {found.what}", Tone.WARN))]
    each = [
        ink(f"✓ {one.check} {one.found}", Tone.GOOD) if one.verdict == "good" else ink(f"✖ {one.check} {one.found}", Tone.BAD)
        for one in found
    ]
    fixes = dict.fromkeys(one.fix for one in found if one.verdict == "bad" and one.fix)
    return [(*_label("services"), *join(each, _DOT)), *((*_label(""), *ink(f"next: {fix}", Tone.STRONG)) for fix in fixes)]


def flags(row: DeviceRow, cells: int) -> list[Ink]:
    """The last flags, the newest first, each with its evidence on one line; its strip is `cells` cells wide."""
    return [flag_line(flag, cells) for flag in reversed(row.flags[-_FLAGS_SHOWN:])]


def flag_line(flag: Flag, cells: int) -> Ink:
    """`⚑ round 4  guard 5.21 > 2.50  ·╌·│╌◆  why`."""
    return (
        *_label("⚑ flag", Tone.BAD),
        *ink(f"round {flag.round}", Tone.STRONG),
        *ink(f"  {flag.rule} {figures.number(flag.score)} > {figures.number(flag.threshold)}  "),
        *figures.strip(flag.score, flag.threshold, flag.peers, cells),
        *ink(f"  {flag.reason}", Tone.MUTED),
    )


def _label(text: str, tone: Tone = Tone.MUTED) -> Ink:
    return ink(f"{text:<10}", tone)


def _labelled(label: str, values: list[str]) -> Ink:
    known = [ink(value) for value in values if value]
    return (*_label(label), *(join(known, _DOT) or ink(figures.NOTHING, Tone.MUTED)))


def _cores(row: DeviceRow) -> str:
    return "" if not row.cores else "1 core" if row.cores == 1 else f"{row.cores:g} cores"


def _system(row: DeviceRow) -> str:
    return " ".join(filter(None, (row.distribution, row.release)))


def _memory(row: DeviceRow) -> str:
    return f"{row.memory_mb} MiB" if row.memory_mb else ""


def _certificate(row: DeviceRow, frame: Frame) -> Ink:
    certificate = row.certificate
    if certificate is None:
        return ink("no certificate", Tone.WARN)
    if certificate.revoked:
        return ink(f"certificate revoked: {certificate.revoked}", Tone.BAD)
    left = (certificate.not_after - frame.now).total_seconds()
    life = (certificate.not_after - certificate.not_before).total_seconds()
    text = f"certificate ends in {figures.age(left)}" if left > 0 else "certificate expired"
    return (*ink(text, certificate_tone(left, life)), *ink(f" (serial {certificate.serial[:12]})", Tone.MUTED))


def _isolation(row: DeviceRow) -> Ink:
    proof = row.isolation
    if proof is None:
        return ink("isolation not proven", Tone.WARN)
    if proof.holds:
        return (*ink("isolation ✓", Tone.GOOD), *ink(f" {proof.probes} probes", Tone.MUTED))
    found = [f"open: {name}" for name in proof.open_forbidden] + [f"closed: {name}" for name in proof.closed_required]
    found += [f"{what} since" for what in proof.drift.found] if proof.drift else []
    return ink(f"isolation ✖ {', '.join(found)}", Tone.BAD)


def _seen(row: DeviceRow, frame: Frame) -> Ink:
    seen = frame.age_s(row.seen)
    return ink("never seen", Tone.MUTED) if seen is None else ink(f"seen {figures.age(seen)} ago")


def _work(row: DeviceRow) -> list[Ink]:
    if not row.updates:
        return [ink("no update yet", Tone.MUTED)]
    return [
        ink(f"{row.updates} updates"),
        ink(f"{row.rejected} invalid", Tone.BAD) if row.rejected else EMPTY,
        ink(f"{row.dropped} dropped", Tone.WARN) if row.dropped else EMPTY,
        ink(f"↑ {figures.size(row.bytes_up)} ↓ {figures.size(row.bytes_down)}"),
        ink(f"trust {figures.number(row.reputation)}"),
    ]


def _privacy(row: DeviceRow) -> Ink:
    epsilon = row.epsilon
    if epsilon.limit is None:
        return ink("no privacy report yet", Tone.MUTED)
    parts = [
        (*figures.bar(epsilon.share, 12, epsilon_tone(epsilon.share)), *ink(f" ε {epsilon.spent:.2f} / {epsilon.limit:.1f}")),
        ink(f"this run {epsilon.run_spent:.2f}"),
        ink(f"δ {epsilon.delta:g}") if epsilon.delta is not None else EMPTY,
        ink(f"σ {epsilon.sigma:.2f}") if epsilon.sigma is not None else EMPTY,
        ink(f"{epsilon.rounds_left} rounds left") if epsilon.rounds_left is not None else EMPTY,
        ink(f"refused: {epsilon.refused}", Tone.BAD) if epsilon.refused else EMPTY,
    ]
    return join(parts, _DOT)
