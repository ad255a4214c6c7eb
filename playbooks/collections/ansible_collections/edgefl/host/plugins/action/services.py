"""Run a host's units where they do not run already."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import TOUCHED


class ActionModule(FactfulAction):
    """Asks the host unless the facts show every unit enabled, active, and younger than its inputs."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Ask when anything may be different."""
        if self.is_fresh and all(self.is_running(unit) for unit in wanted["units"]):
            return self.unchanged(restarted=[])
        return self.ask("services", **wanted, touched=self.facts.get(TOUCHED, []))

    def is_running(self, unit: dict[str, Any]) -> bool:
        """Whether the unit needs nothing."""
        state = self.facts["units"].get(unit["name"])
        if not state or not (state["enabled"] and state["active"]) or state["reload"]:
            return False
        changed = [self.facts["changed_at"].get(path, float("inf")) for path in unit.get("inputs", [])]
        return bool(state["started"] >= max([state["defined"], *changed]))
