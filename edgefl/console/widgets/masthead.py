"""The two lines above every view: which run, how far, how well, how safe, and how fresh all of this is."""

from __future__ import annotations

from collections.abc import Callable

from textual.strip import Strip

from edgefl.console import figures, summary
from edgefl.console.ink import EMPTY, Ink, Tone, ink, join, width
from edgefl.console.live import Frame, Link
from edgefl.console.widgets.inked import Inked
from edgefl.console.widgets.states import certificate_tone, epsilon_tone

Part = Callable[[Frame, int], Ink]
"""A part of a line at a level of brevity: 0 is in full; empty where it is left out."""
_BRIEFEST = 4
_DOT = ink(" · ", Tone.MUTED)
_STATUS = {"running": ("TRAINING", Tone.ACCENT), "completed": ("COMPLETED", Tone.GOOD), "stopped": ("STOPPED", Tone.WARN)}


class Masthead(Inked):
    """Draws `lines` of the frame it was given last."""

    def __init__(self) -> None:
        super().__init__()
        self._frame: Frame | None = None
        self._lines: tuple[Ink, ...] = ()

    def show(self, frame: Frame) -> None:
        """Bring both lines up to this frame."""
        self._frame = frame
        self._settle()

    def on_resize(self) -> None:
        """Another width leaves room for other parts."""
        self._settle()

    def _settle(self) -> None:
        if self._frame is not None and self._lines != (lines := masthead(self._frame, self.size.width)):
            self._lines = lines
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One of the two lines."""
        return self.strip(self._lines[y] if y < len(self._lines) else EMPTY, self.size.width)


def masthead(frame: Frame, cells: int) -> tuple[Ink, Ink]:
    """Both lines in `cells`, as much as fits."""
    right = join([_link(frame)], EMPTY)
    return _first(frame, cells, right), _second(frame, cells)


def _first(frame: Frame, cells: int, right: Ink) -> Ink:
    parts: tuple[Part, ...] = (_site, _run, _progress, _eta)
    for brevity in range(_BRIEFEST + 1):
        left = (*ink(" "), *join([part(frame, brevity) for part in parts], ink("  ")))
        room = cells - width(left) - width(right) - 1
        if room >= 1:
            break
    return (*left, *ink(" " * max(1, room)), *right, *ink(" "))


def _second(frame: Frame, cells: int) -> Ink:
    parts: tuple[Part, ...] = (_devices, _accuracy, _loss, _epsilon, _flags, _certificates, _isolation)
    for brevity in range(_BRIEFEST + 1):
        line = (*ink(" "), *join([part(frame, brevity) for part in parts], _DOT))
        if width(line) <= cells:
            break
    return line


def _site(frame: Frame, brevity: int) -> Ink:
    name = ink(frame.state.site or "edgefl", Tone.STRONG)
    return name if brevity >= 2 or not frame.state.site else (*ink("edgefl  ", Tone.ACCENT), *name)


def _run(frame: Frame, brevity: int) -> Ink:
    run = frame.state.run
    if run is None:
        return ink("no run yet", Tone.MUTED)
    word, tone = _STATUS.get(run.status, (run.status.upper(), Tone.BAD))
    shown = run.id if len(run.id) <= 8 or brevity == 0 else run.id[:7] + "…"
    return (*ink("▸ ", Tone.MUTED), *ink(f"run {shown}  "), *ink(word, tone))


def _progress(frame: Frame, brevity: int) -> Ink:
    state = frame.state
    if state.run is None:
        return EMPTY
    last = summary.last_round(state)
    current = state.rounds[-1].number if state.rounds else 0
    cells = (24, 20, 12, 6, 0)[brevity]
    bar = (*ink(" "), *figures.line(summary.done(state) / max(1, last), cells)) if cells else EMPTY
    return (*ink("round " if brevity < 4 else "", Tone.MUTED), *ink(f"{current}/{last}", Tone.STRONG), *bar)


def _eta(frame: Frame, _: int) -> Ink:
    run = frame.state.run
    if run is not None and run.finished is not None:
        return (*ink("took ", Tone.MUTED), *ink(figures.span((run.finished - run.started).total_seconds())))
    left = summary.eta_s(frame.state, frame.now)
    return EMPTY if left is None else (*ink("eta ", Tone.MUTED), *ink(figures.span(left)))


def _link(frame: Frame) -> Ink:
    silence = figures.age(frame.silence_s)
    match frame.link:
        case _ if frame.step is not None:
            return (*ink("▷ recording", Tone.ACCENT), *ink(f"  step {frame.step[0]} of {frame.step[1]}", Tone.WARN))
        case _ if frame.played is not None:
            how = ink(f"▷ {frame.speed:g}×", Tone.ACCENT) if frame.speed else ink("‖ recording", Tone.WARN)
            return (*how, *ink(f"  {frame.now.astimezone():%H:%M:%S}  {figures.percent(frame.played)}"))
        case _ if frame.is_paused:
            return ink("‖ paused", Tone.WARN)
        case _ if not frame.is_live:
            return ink("✖ recording broken", Tone.BAD) if frame.problem else ink("▷ recording", Tone.ACCENT)
        case Link.ABSENT:
            return ink("○ not provisioned", Tone.WARN)
        case Link.CONNECTING:
            return ink("◌ connecting", Tone.WARN)
        case _ if frame.is_stale:
            return ink(f"◌ stale {silence}", Tone.BAD)
    return (*ink("● live", Tone.GOOD), *ink(f"  {silence} ago", Tone.MUTED))


def _devices(frame: Frame, brevity: int) -> Ink:
    here, all_ = summary.present(frame.state), len(summary.members(frame.state))
    tone = Tone.STRONG if here == all_ else Tone.WARN
    return (*ink(f"{here}/{all_}", tone), *ink(" devices" if brevity < 4 else " dev", Tone.MUTED))


def _measure(frame: Frame, brevity: int, name: str, digits: int, sparks: tuple[int, ...]) -> Ink:
    values = summary.history(frame.state, lambda row: getattr(row, name))
    spark = figures.sparkline(values, sparks[brevity])
    value = ink(figures.number(values[-1] if values else None, digits), Tone.STRONG)
    word = {"accuracy": "acc "}.get(name, f"{name} ")
    return (*ink(word, Tone.MUTED), *value, *ink(f" {spark}" if spark else "", Tone.ACCENT))


def _accuracy(frame: Frame, brevity: int) -> Ink:
    return _measure(frame, brevity, "accuracy", 3, (12, 8, 6, 0, 0))


def _loss(frame: Frame, brevity: int) -> Ink:
    return _measure(frame, brevity, "loss", 2, (12, 8, 0, 0, 0))


def _epsilon(frame: Frame, brevity: int) -> Ink:
    budget = summary.most_spent(frame.state)
    if budget is None or budget.limit is None:
        return EMPTY
    tone = epsilon_tone(budget.share)
    return (*ink("ε max " if brevity < 3 else "ε ", Tone.MUTED), *ink(f"{budget.spent:.1f}/{budget.limit:.1f}", tone))


def _flags(frame: Frame, brevity: int) -> Ink:
    rows = summary.flagged(frame.state)
    if not rows:
        return ink("no flags", Tone.MUTED) if brevity < 3 else EMPTY
    return ink(f"⚑ {len(rows)}" + (" flagged" if brevity < 4 else ""), Tone.BAD)


def _certificates(frame: Frame, brevity: int) -> Ink:
    certificate = summary.first_to_expire(frame.state)
    if certificate is None:
        return EMPTY
    left = (certificate.not_after - frame.now).total_seconds()
    life = (certificate.not_after - certificate.not_before).total_seconds()
    if left <= 0:
        return ink("✖ cert expired" if brevity < 4 else "✖ cert", Tone.BAD)
    return (*ink("certs ", Tone.MUTED), *ink(figures.age(left), certificate_tone(left, life)))


def _isolation(frame: Frame, brevity: int) -> Ink:
    rows = summary.members(frame.state)
    proven, broken = summary.isolation(frame.state)
    if not proven and not broken:
        return EMPTY
    sign, tone = ("✖", Tone.BAD) if broken else ("✓", Tone.GOOD) if proven == len(rows) else ("!", Tone.WARN)
    word = ("isolation ", "isolation ", "isolation ", "iso ", "iso ")[brevity]
    return (*ink(word, Tone.MUTED), *ink(f"{sign} {proven}/{len(rows)}", tone))
