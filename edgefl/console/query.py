"""What `/` understands: plain text, `!text` for everything else, `field:value` for one column; all words must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """A filter, as typed."""

    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.text.strip())

    def accepts(self, fields: Mapping[str, str]) -> bool:
        """Whether a row of these cells (column key → plain text) stays; case does not matter."""
        return all(_holds(word, fields) for word in self.text.casefold().split())


def _holds(word: str, fields: Mapping[str, str]) -> bool:
    if word.startswith("!"):
        return len(word) == 1 or not _holds(word[1:], fields)
    name, colon, value = word.partition(":")
    if colon and name in fields:
        return value in fields[name].casefold()
    return any(word in text.casefold() for text in fields.values())
