"""One verdict over all hosts, before anything is changed on any of them."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgefl.host.plugins.plugin_utils.fitness import verdict
from ansible_collections.edgefl.host.plugins.plugin_utils.known import FACT, FactfulAction


class ActionModule(FactfulAction):
    """Runs once for the whole play (`run_once`): fails when the site says so, else names who is left out."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Gather every host's problems and decide."""
        hosts = self.task_vars["hostvars"]
        names = self.task_vars["ansible_play_hosts_all"]
        found = {name: hosts[name].get(FACT, {}).get("problems", ["could not be read"]) for name in names}
        unfit = {name: list(problems) for name, problems in found.items() if problems}
        goes_on, block = verdict(
            unfit,
            stops=wanted["on_failure"] == "stop",
            coordinator=wanted["coordinator"],
            devices=sum(name != wanted["coordinator"] for name in names),
            quorum=int(wanted["quorum"]),
        )
        return {"changed": False, "failed": not goes_on, "msg": block, "unfit": unfit}
