"""Run a host's units where they do not run already."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT, FORESEEN, TOUCHED


class ActionModule(FactfulAction):
    """Asks the host unless the facts show every unit enabled, active, and younger than its inputs."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Ask when anything may be different."""
        if self.is_fresh and all(map(self.is_running, wanted["units"])) and all(map(self.is_gone, wanted.get("gone") or [])):
            return self.unchanged(restarted=[])
        if not self.is_checking:
            return self.ask("services", **wanted)
        return self.foresee(wanted)

    def foresee(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Ask what would be started, but for what an earlier step of this check has said already."""
        touched: list[str] = self.facts.get(TOUCHED, [])
        foreseen: dict[str, int] = self.facts.get(FORESEEN, {})
        since = {unit["name"]: touched[foreseen.get(unit["name"], 0) :] for unit in wanted["units"]}
        result = self.ask("services", **wanted, touched=since, foreseen=list(foreseen))
        if self.facts:
            said = dict.fromkeys([*result["restarted"], *result["enabled"]], len(touched))
            result["ansible_facts"] = {FACT: {**self.facts, FORESEEN: {**foreseen, **said}}}
        return result

    def is_gone(self, service: dict[str, Any]) -> bool:
        """Whether nothing of the service is left."""
        unit = f"/etc/systemd/system/{service['name']}.service"
        return not any(path in self.facts["paths"] for path in [unit, *service.get("files", [])])

    def is_running(self, unit: dict[str, Any]) -> bool:
        """Whether the unit needs nothing."""
        state = self.facts["units"].get(unit["name"])
        if not state or not (state["enabled"] and state["active"]) or state["reload"]:
            return False
        changed = [self.facts["changed_at"].get(path, float("inf")) for path in unit.get("inputs", [])]
        return bool(state["started"] >= max([state["defined"], *changed]))
