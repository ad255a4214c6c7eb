"""The columns that show an update with its evidence, wherever updates are listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgefl.console import figures
from edgefl.console.ink import Ink, Tone, ink
from edgefl.console.widgets.columns import Column
from edgefl.monitor.round import UpdateRow


@dataclass(frozen=True, slots=True)
class Part:
    """One device's update in one round."""

    round: int
    update: UpdateRow


def verdict(update: UpdateRow) -> Ink:
    """What became of the update, as a sign and a word."""
    if update.dropped:
        return ink("✖ dropped", Tone.WARN)
    if update.rejected:
        return ink("✖ invalid", Tone.BAD)
    if update.masked and update.samples is not None:
        return ink("≡ masked", Tone.MUTED)
    sign = "⚑" if update.flagged else {"accept": "✓", "down-weight": "▽", "reject": "✖"}.get(update.verdict, "○")
    is_bad = update.flagged or update.verdict == "reject"
    tone = Tone.BAD if is_bad else Tone.WARN if update.verdict == "down-weight" else Tone.GOOD
    return ink(f"{sign} {update.verdict}", tone) if update.verdict else ink("○ waiting", Tone.MUTED)


def why(update: UpdateRow) -> str:
    """The reason for whatever became of the update."""
    return update.dropped or update.rejected or update.reason


def _score(part: Part, _: int) -> Ink:
    score, threshold = part.update.score, part.update.threshold
    over = score is not None and threshold is not None and score > threshold
    return ink(figures.number(score), Tone.MUTED if score is None else Tone.BAD if over else Tone.PLAIN)


def _measure(
    key: str, title: str, importance: int, of: Callable[[UpdateRow], float | None], shown: Callable[[float | None], str]
) -> Column[Part]:
    def draw(part: Part, _: int) -> Ink:
        value = of(part.update)
        return ink(shown(value), Tone.MUTED if value is None else Tone.PLAIN)

    return Column(key, title, 5, draw, lambda part: of(part.update), importance, descending=True)


def _sent(update: UpdateRow) -> float | None:
    return update.bytes_up if update.samples is not None else None


ROUND: Column[Part] = Column("round", "ROUND", 5, lambda p, _: ink(str(p.round), Tone.STRONG), lambda p: p.round, descending=True)
DEVICE: Column[Part] = Column(
    "device", "DEVICE", 8, lambda p, _: ink(p.update.device, Tone.STRONG), lambda p: p.update.device, right=False, whole=True
)
WHY: Column[Part] = Column(
    "why", "WHY", 8, lambda p, _: ink(why(p.update), Tone.MUTED), lambda p: why(p.update) or None, 3, right=False, most=80
)
EVIDENCE: tuple[Column[Part], ...] = (
    Column("verdict", "VERDICT", 13, lambda p, _: verdict(p.update), lambda p: p.update.verdict or None, right=False),
    Column("score", "SCORE", 5, _score, lambda p: p.update.score, descending=True),
    _measure("limit", "LIMIT", 1, lambda update: update.threshold, figures.number),
    _measure("weight", "WEIGHT", 1, lambda update: update.weight, figures.number),
    _measure("norm", "NORM", 2, lambda update: update.norm, figures.number),
    _measure("cosine", "COSINE", 2, lambda update: update.cosine, figures.number),
    _measure("trust", "TRUST", 6, lambda update: update.reputation, figures.number),
    _measure("acc", "ACC", 4, lambda update: update.accuracy, figures.number),
    _measure("loss", "LOSS", 5, lambda update: update.loss, figures.number),
    Column("samples", "SAMPLES", 7, lambda p, _: ink(figures.count(p.update.samples)), lambda p: p.update.samples, 7),
    _measure("train", "TRAIN", 6, lambda update: update.train_s, figures.seconds),
    _measure("transfer", "TRANSFER", 8, lambda update: update.transfer_s, figures.seconds),
    _measure("up", "UP", 9, _sent, figures.size),
    WHY,
)
