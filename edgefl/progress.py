"""What an operation says while it works: one typed stream that the CLI, the console and CI render alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Text from elsewhere without what would steer a terminal: control characters (C0, C1) become `·`, line breaks a space."""
    return text if text.isprintable() else _CONTROL.sub("·", " ".join(text.splitlines()))


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that happened in a stage of an operation.

    stage: the link of the chain, e.g. `infrastructure`, `certificates`, `configuration`, `proof`, `run`.
    subject: what it happened to, a device's name or a resource's address; empty for the stage itself.
    what: a fact in a few words, e.g. `created`, `The gate demands client certificates`.
    """

    stage: str
    subject: str
    what: str
    detail: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The event as `--json` prints it, one object a line."""
        return {"type": type(self).__name__.lower(), **asdict(self)}


@dataclass(frozen=True, slots=True)
class Started(Progress):
    """A stage, or a subject's part of it, has begun; `total` is how many steps are expected where that is known."""

    total: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Step(Progress):
    """One step is done; `changed` says whether it changed anything."""

    changed: bool = field(default=False, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True, slots=True)
class Finished(Progress):
    """A stage, or a subject's part of it, is complete."""

    changed: bool = field(default=False, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True, slots=True)
class Failed(Progress):
    """A subject failed; the operation goes on or ends as the site says."""

    why: str = field(default="", kw_only=True)
    hint: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Warned(Progress):
    """Something that the operator should know, though nothing failed."""

    hint: str = field(default="", kw_only=True)
