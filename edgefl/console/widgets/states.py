"""How a device's state, its budget and its certificate look: signs, words and tones."""

from __future__ import annotations

from edgefl.console import figures
from edgefl.console.ink import Ink, Tone, ink
from edgefl.monitor.device import Certificate, Epsilon

STATES: dict[str, tuple[str, Tone]] = {
    "training": ("●", Tone.ACCENT),
    "waiting": ("○", Tone.PLAIN),
    "online": ("○", Tone.PLAIN),
    "enrolled": ("·", Tone.MUTED),
    "drained": ("◌", Tone.MUTED),
    "offline": ("✖", Tone.WARN),
    "suspect": ("⚑", Tone.BAD),
    "quarantined": ("⊘", Tone.BAD),
    "removed": ("–", Tone.MUTED),
}
"""From what is well to what needs somebody."""
URGENCY = {state: place for place, state in enumerate(STATES)}
"""How `STATE` sorts, backwards."""


def state_ink(state: str) -> Ink:
    """A state's sign and word."""
    sign, tone = STATES.get(state, ("?", Tone.WARN))
    return ink(f"{sign} {state}", tone)


def epsilon_ink(epsilon: Epsilon, cells: int) -> Ink:
    """`━━━━───── 3.0 / 8.0`; the bar takes what the figures leave."""
    if epsilon.limit is None:
        return ink(figures.NOTHING, Tone.MUTED)
    text = f" {epsilon.spent:.1f} / {epsilon.limit:.1f}" if cells >= 16 else f" {epsilon.spent:.1f}/{epsilon.limit:.1f}"
    return (*figures.bar(epsilon.share, cells - len(text), epsilon_tone(epsilon.share)), *ink(text))


def certificate_ink(certificate: Certificate, left_s: float) -> Ink:
    """How long a certificate still lasts, or why it does not."""
    if certificate.revoked:
        return ink("revoked", Tone.BAD)
    if left_s <= 0:
        return ink("expired", Tone.BAD)
    life_s = (certificate.not_after - certificate.not_before).total_seconds()
    return ink(figures.age(left_s), certificate_tone(left_s, life_s))


def epsilon_tone(share: float) -> Tone:
    """Calm until four fifths of the limit are spent."""
    return Tone.GOOD if share < 0.8 else Tone.WARN if share < 1 else Tone.BAD


def certificate_tone(left_s: float, life_s: float) -> Tone:
    """Renewal is due at a third of the life; at a sixth it has evidently not happened."""
    return Tone.PLAIN if left_s > life_s / 3 else Tone.WARN if left_s > life_s / 6 else Tone.BAD
