"""Wait for devices that the facts do not already show online."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT, TOUCHED


class ActionModule(FactfulAction):
    """Asks the coordinator unless it said so a moment ago and nothing has changed on any of these hosts since."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Ask when anything may be different."""
        facts = self.task_vars["hostvars"]
        known = [facts.get(name, {}).get(FACT, {}) for name in (wanted["coordinator"], *wanted["devices"])]
        online = known[0].get("devices", {})
        if all(fact and not fact.get(TOUCHED) for fact in known) and all(online.get(name) for name in wanted["devices"]):
            return self.unchanged(offline=[])
        return self.ask("online", **wanted)
