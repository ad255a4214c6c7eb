"""Read a host's state, and never fail: what makes a host unfit is a fact about it."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.edgefl.host.plugins.plugin_utils.fitness import Requirements, problems, unanswered, unreadable
from ansible_collections.edgefl.host.plugins.plugin_utils.known import FactfulAction
from ansible_collections.edgefl.host.plugins.plugin_utils.names import FACT


class ActionModule(FactfulAction):
    """The facts, the clock's difference to the operator's, and a list of what is wrong with the host."""

    def act(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Ask, and judge."""
        requirements = Requirements(**wanted.pop("require", {}))
        self.facts = {}
        asked = time.time()
        try:
            result = self._execute_module(module_name="edgefl.host.facts", module_args=wanted, task_vars=self.task_vars)
        except AnsibleConnectionFailure as failure:
            return self.unfit(unanswered(str(failure)))
        answered = time.time()
        facts = result.get("ansible_facts", {}).get(FACT)
        if facts is None:
            return self.unfit(unreadable(result))
        # The host read its clock somewhere between the two: half of the round trip is what cannot be known.
        facts["clock_skew_s"] = facts["clock"] - (asked + answered) / 2
        facts["clock_uncertainty_s"] = (answered - asked) / 2
        facts["problems"] = problems(facts, requirements)
        return {"changed": False, "ansible_facts": {FACT: facts}}

    def unfit(self, why: str) -> dict[str, Any]:
        """A host of which nothing else is known."""
        return {"changed": False, "ansible_facts": {FACT: {"problems": [why]}}}
