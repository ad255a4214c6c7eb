"""One verdict over all hosts, before anything is changed on any of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import context
from edgefl.errors import EdgeflError

from ansible_collections.edgefl.host.plugins.plugin_utils import authority, standing
from ansible_collections.edgefl.host.plugins.plugin_utils.fitness import verdict
from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT

PLAYBOOKS = Path(__file__).parents[5]


class ActionModule(FactfulAction):
    """Runs once for the whole play (`run_once`): fails when the site says so, else names who is left out.

    With `record` it also says whether there is anything to do at all.
    """

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Gather every host's problems and decide."""
        hosts = self.task_vars["hostvars"]
        names = self.task_vars["ansible_play_hosts_all"]
        facts = {name: hosts[name].get(FACT, {"problems": ["could not be read"]}) for name in names}
        unfit = {name: list(known["problems"]) for name, known in facts.items() if known["problems"]}
        watchers = wanted.get("watchers") or []
        goes_on, block = verdict(
            unfit,
            stops=wanted["on_failure"] == "stop",
            coordinator=wanted["coordinator"],
            devices=sum(name not in (wanted["coordinator"], *watchers) for name in names),
            quorum=int(wanted["quorum"]),
            watchers=watchers,
        )
        said = {"changed": False, "failed": not goes_on, "msg": block, "unfit": unfit, "stands": False, "wants": {}, "word": ""}
        record = wanted.get("record")
        if not record or not goes_on:
            return said
        try:
            word = authority.word_of(authority.of(wanted["site_file"], wanted["state_dir"]))
        except EdgeflError:  # the role that needs the authority says what is wrong with it
            return said
        others = [standing.of_tree(PLAYBOOKS), str(context.CLIARGS.get("extra_vars"))]
        wants = {name: standing.wanted(hosts.raw_get(name), others) for name in names}
        before, under_it = standing.load(Path(record)), standing.under(wants, word)
        is_done = not unfit and standing.stands(before, under_it, facts, datetime.now(UTC))
        return {**said, "stands": is_done, "wants": wants, "word": word}
