"""A plan as values: what Terraform would do to which host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SENSITIVE = "(sensitive)"
Action = Literal["create", "update", "replace", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """One host's change. `before` and `after` hold only what differs; what is known after apply is left out, and what a module
    calls sensitive is not shown.
    """

    address: str
    name: str
    action: Action
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def leaves_it_up(self) -> bool:
        """Whether the host can be reached before the change: it is there, and the change does not make, boot or remove it."""
        return self.action == "update" and self.before.get("running") is not False


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
        was = _shown(before, change.get("before_sensitive"), keys)
        will = _shown(after, change.get("after_sensitive"), keys)
        found.append(Change(resource["address"], name, action, was, will))
    return sorted(found, key=lambda change: change.address)


def _shown(values: Mapping[str, Any], sensitive: object, keys: Sequence[str]) -> dict[str, Any]:
    """The values of these keys; Terraform marks secrets in a mirror of them, wholly (`true`) or in places."""
    hidden = sensitive if isinstance(sensitive, Mapping) else dict.fromkeys(values, sensitive)
    return {key: SENSITIVE if _is_marked(hidden.get(key)) else values[key] for key in keys if key in values}


def _is_marked(mark: object) -> bool:
    """Whether anything beneath is secret: a mirror has `true` where it is, and empty shells where nothing is."""
    if isinstance(mark, Mapping):
        return any(map(_is_marked, mark.values()))
    return any(map(_is_marked, mark)) if isinstance(mark, list) else bool(mark)


def _action(actions: list[str]) -> Action | None:
    if len(actions) == 2:
        return "replace"
    kinds: dict[str, Action] = {"create": "create", "update": "update", "delete": "delete"}
    return kinds.get(actions[0])
