"""Write down how a run leaves its hosts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.edgefl.host.plugins.plugin_utils import standing
from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT


class ActionModule(FactfulAction):
    """Runs once, after the hosts were read again: those that came through the whole run and work are written down."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Replace the record's entries of these hosts; others keep theirs."""
        path, hosts = Path(wanted["record"]), self.task_vars["hostvars"]
        wants = standing.under(wanted["wants"], wanted["word"])
        now = datetime.now(UTC)
        record = standing.load(path)
        for name in self.task_vars["ansible_play_hosts"]:
            facts = hosts[name].get(FACT, {})
            record.pop(name, None)
            if name in wants and not facts.get("problems", True) and standing.is_sound(facts, now):
                record[name] = [wants[name], standing.observed(facts)]
        if not self.is_checking:
            standing.save(path, record)
        return self.unchanged()
