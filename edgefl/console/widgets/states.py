"""How a device's state looks: a sign, a word and a tone."""

from __future__ import annotations

from edgefl.console.ink import Ink, Tone, ink

STATES: dict[str, tuple[str, Tone]] = {
    "training": ("●", Tone.ACCENT),
    "waiting": ("○", Tone.PLAIN),
    "online": ("○", Tone.PLAIN),
    "enrolled": ("·", Tone.MUTED),
    "offline": ("✖", Tone.WARN),
    "suspect": ("⚑", Tone.BAD),
    "quarantined": ("⊘", Tone.BAD),
    "removed": ("–", Tone.MUTED),
}
"""From what is well to what needs somebody, which is also how `STATE` sorts, backwards."""


def state_ink(state: str) -> Ink:
    """A state's sign and word."""
    sign, tone = STATES.get(state, ("?", Tone.WARN))
    return ink(f"{sign} {state}", tone)
