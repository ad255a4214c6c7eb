"""Set a host's firewall without ever locking the operator out."""

from __future__ import annotations

import hashlib
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure

from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction

RULESET = "/etc/edgefl/firewall.nft"


class ActionModule(FactfulAction):
    """Applies behind a rollback guard, then confirms over the connection that the new ruleset has to let pass."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Nothing when the kernel's table is what the persisted ruleset means and that is the wanted one."""
        if self.facts and self.is_set(wanted["ruleset"]):
            return self.unchanged(touched=[])
        result = self.ask("firewall", **wanted)
        if not result["unconfirmed"]:
            return result
        try:
            self.ask("firewall", **{**wanted, "step": "confirm"})
        except AnsibleConnectionFailure as failure:
            guard = wanted.get("guard_s", 20)
            raise AnsibleActionFail(
                f"the new ruleset cut this connection; the host restores the old one within {guard} s: {failure}"
            ) from failure
        return {**result, "unconfirmed": False}

    def is_set(self, ruleset: str) -> bool:
        """Whether the facts show this ruleset on disk and in the kernel."""
        digest = hashlib.sha256(ruleset.encode()).hexdigest()
        on_disk = self.facts["paths"].get(RULESET)
        wanted = {"kind": "file", "owner": "root", "group": "root", "mode": "0600", "sha256": digest}
        live = self.facts["firewall"]
        return bool(on_disk == wanted and live["live"] and live["live"] == live["expected"])
