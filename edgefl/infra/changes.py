"""A plan as values: what Terraform would do to which host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["create", "update", "replace", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """One host's change. `before` and `after` hold only what differs; what is known after apply is left out."""

    address: str
    name: str
    action: Action
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def __str__(self) -> str:
        sign = {"create": "+", "update": "~", "replace": "±", "delete": "-"}[self.action]
        differs = ", ".join(f"{key}: {self.before.get(key)} → {value}" for key, value in self.after.items())
        return f"{sign} {self.name}" + (f"  {differs}" if self.action in ("update", "replace") else "")


def changes_in(plan: Mapping[str, Any]) -> list[Change]:
    """The changes of a plan as `terraform show -json` writes it, in the order of their addresses."""
    found = []
    for resource in plan.get("resource_changes", []):
        change = resource["change"]
        action = _action(change["actions"])
        if action is None:
            continue
        before, after = change.get("before") or {}, change.get("after") or {}
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        name = str(resource.get("index", resource["name"]))
        was = {key: before[key] for key in keys if key in before}
        will = {key: after[key] for key in keys if key in after}
        found.append(Change(resource["address"], name, action, was, will))
    return sorted(found, key=lambda change: change.address)


def _action(actions: list[str]) -> Action | None:
    if len(actions) == 2:
        return "replace"
    kinds: dict[str, Action] = {"create": "create", "update": "update", "delete": "delete"}
    return kinds.get(actions[0])
