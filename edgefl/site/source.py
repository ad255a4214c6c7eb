"""A YAML file whose every value knows its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from edgefl.errors import Where
from edgefl.site.invalid import Finding, SiteInvalid

Location = Sequence[str | int]
"""The way to a value from the document's top, e.g. `("devices", 3, "name")`."""


_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""Where ruamel counts a new line."""


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed YAML file. `tree` is ruamel's round-trip form, which keeps lines."""

    path: Path
    text: tuple[str, ...]
    tree: Any

    @classmethod
    def read(cls, path: Path) -> Source:
        """Parse a YAML 1.2 file; SiteInvalid when it cannot be read or is no YAML."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            hint = f"edgefl init {path.parent}"
            raise SiteInvalid([Finding(Where(path, 1), f"there is no {path.name} in {path.parent}", hint)]) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SiteInvalid([Finding(Where(path, 1), f"it cannot be read: {error}")]) from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Source:
        """The text as YAML 1.2, told as the file at `path`; SiteInvalid when it is no YAML."""
        lines = tuple(_BREAK.split(text))
        try:
            return cls(path, lines, YAML(typ="rt").load(text))
        except MarkedYAMLError as error:
            marks = [mark.line for mark in (error.problem_mark, error.context_mark) if mark is not None]
            line = next((mark for mark in marks if mark < len(lines) and lines[mark].strip()), 0) + 1
            what = " ".join(part for part in (error.context, error.problem) if part)
            raise SiteInvalid([Finding(_where(path, lines, line), f"not YAML: {what}")]) from error
        except (YAMLError, ValueError) as error:
            raise SiteInvalid([Finding(Where(path, 1), f"not YAML: {error}")]) from error

    @property
    def values(self) -> Any:
        """The document as plain Python values; keys without a value are left out, so they mean their defaults."""
        return _plain(self.tree)

    def holds(self, location: Location) -> Location:
        """The longest beginning of the location that stands in the file."""
        node = self.tree
        for depth, step in enumerate(location):
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return location[:depth]
        return location

    def where(self, location: Location) -> Where:
        """The line on which the value's key (or a list's item) stands, or its nearest parent's."""
        node, line = self.tree, 0
        for step in self.holds(location):
            line = _line(node, step, line)
            node = node[step]
        return _where(self.path, self.text, line + 1)


def _line(node: Any, step: str | int, otherwise: int) -> int:
    """Where a key or item begins, counted from 0; merged keys (`<<`) have no line of their own."""
    try:
        if isinstance(node, CommentedMap):
            return int(node.lc.key(step)[0])
        if isinstance(node, CommentedSeq):
            return int(node.lc.item(step)[0])
    except (KeyError, TypeError, AttributeError):
        pass
    return otherwise


def _where(path: Path, lines: Sequence[str], line: int) -> Where:
    return Where(path, line, lines[line - 1] if 0 < line <= len(lines) else "")


def _plain(node: Any) -> Any:
    """Ruamel's own number and string classes as Python's, so that pydantic sees their true types."""
    if isinstance(node, dict):
        return {_plain(key): _plain(value) for key, value in node.items() if value is not None}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
