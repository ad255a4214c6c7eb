"""Numbers, ages and series as an operator reads them at a glance; each in a width that a column can count on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgefl.console.ink import Ink, Tone, ink

NOTHING = "—"
BARS = "▁▂▃▄▅▆▇█"


def number(value: float | None, digits: int = 2) -> str:
    """`0.91`; a dash when there is none. Losses of runs that blow up stay short: `1.2e6`, `∞`."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) >= 10_000:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """`1 204`, in groups of three."""
    return NOTHING if value is None else f"{value:,}".replace(",", " ")


def size(value: float | None) -> str:
    """Bytes as `830`, `1.1K`, `12M`, `4.0G`: at most four characters."""
    if value is None:
        return NOTHING
    if value < 1000:
        return f"{value:.0f}"
    for unit in "KMGTP":
        value /= 1000
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return f"{value:.0f}P"


def times(value: float | None) -> str:
    """How many times smaller: `3.9×`, `58×`."""
    if value is None:
        return NOTHING
    return f"{value:.1f}×" if value < 9.95 else f"{value:.0f}×"


def seconds(value: float | None) -> str:
    """A measured duration: `0.4s`, `12.3s`, then as `span`."""
    if value is None:
        return NOTHING
    return f"{value:.1f}s" if value < 99.95 else span(value)


def span(value: float | None) -> str:
    """A length of time in its two largest units: `14s`, `6m40s`, `19h`, `3d04h`."""
    if value is None:
        return NOTHING
    whole = max(0, int(value))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def age(value: float | None) -> str:
    """How long ago, in one unit: `2s`, `4m`, `17h`, `3d`."""
    if value is None:
        return NOTHING
    whole = max(0, int(value))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def percent(part: float | None) -> str:
    """A share as `71%`."""
    return NOTHING if part is None else f"{100 * part:.0f}%"


def bar(part: float, cells: int, tone: Tone) -> Ink:
    """`━━━━━━────`: the spent share of `cells`; anything spent shows, and only all of it fills the bar."""
    filled = min(cells if part >= 1 else cells - 1, max(1 if part > 0 else 0, round(part * cells)))
    return (*ink("━" * filled, tone), *ink("─" * (cells - filled), Tone.MUTED))


def line(part: float, cells: int) -> Ink:
    """`━━━━━━────`: progress of a run."""
    filled = round(min(1.0, max(0.0, part)) * cells)
    return (*ink("━" * filled, Tone.ACCENT), *ink("─" * (cells - filled), Tone.MUTED))


def sparkline(values: Sequence[float], cells: int) -> str:
    """The last `cells` values as blocks, scaled to their own range; a flat series is a low line."""
    shown = [value for value in values if math.isfinite(value)][-cells:] if cells > 0 else []
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    spread = high - low
    if spread <= 0:
        return BARS[0] * len(shown)
    return "".join(BARS[round((value - low) / spread * (len(BARS) - 1))] for value in shown)


def strip(value: float, threshold: float, peers: Sequence[float], cells: int) -> Ink:
    """Scores on one line: `·` a peer, `│` the threshold, `◆` this update; from 0 to the largest of them."""
    top = max((score for score in (value, threshold, *peers) if math.isfinite(score)), default=0.0) or 1.0
    marks: list[tuple[str, Tone]] = [("╌", Tone.MUTED)] * cells

    def place(score: float) -> int:
        share = score / top if math.isfinite(score) else 1.0
        return round(min(1.0, max(0.0, share)) * (cells - 1))

    for peer in peers:
        marks[place(peer)] = ("·", Tone.STRONG)
    marks[place(threshold)] = ("│", Tone.WARN)
    marks[place(value)] = ("◆", Tone.BAD if value > threshold else Tone.GOOD)
    return tuple(marks)
