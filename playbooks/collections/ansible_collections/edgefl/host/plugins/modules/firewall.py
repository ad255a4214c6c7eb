#!/usr/bin/python
"""The host's firewall is the given ruleset, now and after a reboot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: A ruleset is checked, applied atomically behind a rollback guard, and persisted
description:
  - The ruleset owns the table C(inet edgefl) and nothing else; what other tables of the host do stays as it is.
  - C(apply) lets the kernel load the ruleset in an empty network namespace first, then arms a timer that restores the table as it
    was, then applies. C(confirm) disarms the timer and persists. The action plugin of the same name confirms over the connection
    to the operator, whose every packet the new ruleset has to let pass - a ruleset that locks the operator out undoes itself.
options:
  ruleset:
    description: The file for C(nft --file).
    type: str
    required: true
  step:
    description: Which half to do.
    type: str
    choices: [apply, confirm]
    default: apply
  guard_s:
    description: Seconds until the rollback, unless confirmed.
    type: int
    default: 20
  operators:
    description: Addresses from which the host is administered; refused when the current connection comes from none of them.
    type: list
    elements: str
    default: []
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The device drops everything that no rule allows
  edgefl.host.firewall:
    ruleset: "{{ lookup('ansible.builtin.template', 'device.nft.j2') }}"
"""

RETURN = r"""
unconfirmed:
  description: Whether a rollback is armed.
  returned: always
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import nft, paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

RULESET = "/etc/edgefl/firewall.nft"
FRESH = "/etc/edgefl/firewall.nft.unconfirmed"
ROLLBACK = "/run/edgefl-firewall-rollback.nft"
GUARD = "edgefl-firewall-rollback"
UNIT = "edgefl-firewall.service"


def apply(module):
    """Check, guard, apply. Returns whether anything differed, with the live table before and after."""
    check_operator(module)
    before = nft.live()
    persisted = paths.read(RULESET)
    _write(FRESH, module.params["ruleset"])
    try:
        after = nft.expected(FRESH)
        if before == after:
            return finish(module, before, after, persisted)
        if module.check_mode:
            return True, before, after
        _write(ROLLBACK, "table inet edgefl\ndelete table inet edgefl\n" + before)
        guard = [f"--on-active={module.params['guard_s']}", "--timer-property=AccuracySec=1s", "--unit=" + GUARD]
        run(["systemctl", "stop", GUARD + ".timer"], check=False)
        run(["systemd-run", "--quiet", "--collect", *guard, "nft", "--file", ROLLBACK])
        run(["nft", "--file", FRESH])
        return True, before, after
    finally:
        if module.check_mode:
            os.unlink(FRESH)


def finish(module, before, after, persisted):
    """The live table is right already; only what survives a reboot may be missing."""
    changed = persisted != module.params["ruleset"]
    if not module.check_mode:
        os.replace(FRESH, RULESET)
    return changed, before if not changed else persisted, after if not changed else module.params["ruleset"]


def confirm():
    """The operator still gets through: disarm the rollback and persist."""
    run(["systemctl", "stop", GUARD + ".timer"], check=False)
    if os.path.exists(FRESH):
        os.replace(FRESH, RULESET)
    if os.path.exists(ROLLBACK):
        os.unlink(ROLLBACK)


def check_operator(module):
    """Refuse a ruleset under which the very next packet of this connection would be dropped."""
    peer = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    if peer and module.params["operators"] and peer not in module.params["operators"]:
        module.fail_json(
            msg=f"you reach this host from {peer}, which is not among isolation.operator_addresses "
            f"({', '.join(module.params['operators'])}): the firewall would lock you out"
        )


def main():
    """One of the two halves."""
    module = AnsibleModule(
        argument_spec={
            "ruleset": {"type": "str", "required": True},
            "step": {"type": "str", "choices": ["apply", "confirm"], "default": "apply"},
            "guard_s": {"type": "int", "default": 20},
            "operators": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        if module.params["step"] == "confirm":
            confirm()
            module.exit_json(changed=True, unconfirmed=False)
        changed, before, after = apply(module)
    except (CommandFailed, OSError) as failure:
        module.fail_json(msg=f"the firewall could not be set: {failure}")
    diff = {"before_header": "nft table inet edgefl", "after_header": "nft table inet edgefl", "before": before, "after": after}
    unconfirmed = changed and os.path.exists(FRESH) and not module.check_mode
    module.exit_json(changed=changed, unconfirmed=unconfirmed, diff=diff, touched=[RULESET] if changed else [])


def _write(path, content):
    paths.write(path, content.encode(), "root", "root", "0600")


if __name__ == "__main__":
    main()
