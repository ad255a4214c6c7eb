"""What a play knows about a host, and whether that may still be trusted."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT, TOUCHED


class FactfulAction(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """An action that first compares what is wanted with the facts, and asks the host only about a difference.

    Subclasses implement `act`. The facts are trusted until an action of this play changes the host.
    """

    _VALID_ARGS = None

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ansible's entry: act, and note what was touched."""
        super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        self.facts: dict[str, Any] = dict(self.task_vars.get(FACT) or {})
        self.is_checking: bool = self._task.check_mode
        result = self.act(dict(self._task.args))
        result.pop("invocation", None)
        touched = [*self.facts.get(TOUCHED, []), *result.get(TOUCHED, [])]
        if self.facts and touched != self.facts.get(TOUCHED, []):
            noted = result.setdefault("ansible_facts", {}).setdefault(FACT, self.facts)
            result["ansible_facts"][FACT] = {**noted, TOUCHED: touched}
        return result

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Bring `wanted` about and return Ansible's result."""
        raise NotImplementedError

    @property
    def is_fresh(self) -> bool:
        """Whether the facts still say how the host is."""
        return bool(self.facts) and not self.facts.get(TOUCHED)

    def unchanged(self, **more: Any) -> dict[str, Any]:
        """The result of a host that is already as wanted."""
        return {"changed": False, **more}

    def ask(self, module: str, **arguments: Any) -> dict[str, Any]:
        """Run a module of this collection on the host; a failure ends the task with the module's own words."""
        result: dict[str, Any] = self._execute_module(
            module_name="edgefl.host." + module, module_args=arguments, task_vars=self.task_vars
        )
        if result.get("failed"):
            result.pop("invocation", None)
            raise AnsibleActionFail(str(result.get("msg", "the module failed without a word")), result=result)
        return result
