"""What differs where a step changes something, as lines: before → after from Terraform, a unified diff from Ansible."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any


def differing(detail: Mapping[str, Any]) -> list[str]:
    """Every line that a Step's detail has of it; none where it says nothing about what differs."""
    return [*_attributes(detail), *(line for part in detail.get("diff", ()) for line in _diff(part))]


def _attributes(detail: Mapping[str, Any]) -> Iterator[str]:
    if detail.get("action") not in ("update", "replace"):
        return
    before, after = detail.get("before", {}), detail.get("after", {})
    for name in {**before, **after}:
        yield f"{name}: {_value(before, name)} → {_value(after, name)}"


def _value(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "(known later)"
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _diff(part: Mapping[str, Any]) -> Iterator[str]:
    """One of Ansible's diffs: two texts (or structures) with their names, or a text that the module prepared itself."""
    if prepared := part.get("prepared"):
        yield from str(prepared).splitlines()
        return
    before, after = (_lines(part.get(side)) for side in ("before", "after"))
    was, will = (str(part.get(f"{side}_header") or "") for side in ("before", "after"))
    heading = 0 if was or will else 2  # a diff of things without a name begins with two empty headers
    yield from list(difflib.unified_diff(before, after, was, will, n=1, lineterm=""))[heading:]


def _lines(content: object) -> list[str]:
    if content is None:
        return []
    text = content if isinstance(content, str) else json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    return text.splitlines()
