"""What `/` understands: plain text, `!text` for everything else, `field:value` for one column; all words must hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Query:
    """A filter, as typed."""

    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.text.strip())

    def needs(self, plain: Collection[str], named: Collection[str]) -> set[str]:
        """The columns that it looks at, by key: those of `named` that it names, and for a word that names none all of `plain`."""
        names = {word.lstrip("!").partition(":")[0] if ":" in word else "" for word in self.text.casefold().split()}
        return names & set(named) | (set() if names <= set(named) else set(plain))

    def accepts(self, fields: Mapping[str, str]) -> bool:
        """Whether a row of these cells (column key → plain text) stays; case does not matter."""
        return all(_holds(word, fields) for word in _words(self.text))


@lru_cache
def _words(text: str) -> tuple[str, ...]:
    """Split once for all rows: a filter is asked thousands of times for each key that is typed into it."""
    return tuple(text.casefold().split())


def apart(text: str, name: str) -> tuple[str, str]:
    """The value of the last word `name:value` of a filter, empty where there is none; and the filter without such words."""
    words = text.split()
    own = [word for word in words if word.casefold().startswith(f"{name}:")]
    return (own[-1].partition(":")[2] if own else ""), " ".join(word for word in words if word not in own)


def _holds(word: str, fields: Mapping[str, str]) -> bool:
    if word[0] == "!":
        return len(word) == 1 or not _holds(word[1:], fields)
    if ":" in word:
        name, _, value = word.partition(":")
        if name in fields:
            return value in fields[name].casefold()
    return word in "\n".join(fields.values()).casefold()  # no word has a line's end in it
