#!/usr/bin/python
"""Devices are online, as the coordinator sees them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: online
short_description: Wait until the coordinator has these devices online
description:
  - Asks the coordinator's monitor until the SuperLink has every named device online. Changes nothing.
options:
  devices:
    description: The devices.
    type: list
    elements: str
    required: true
  coordinator:
    description: The coordinator's name in the inventory, to which the task is delegated.
    type: str
    required: true
  wait_s:
    description: How long to wait, in seconds.
    type: float
    default: 60
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: Every device is online
  edgefl.host.online: {devices: [edge-01, edge-02], coordinator: coordinator}
  delegate_to: coordinator
  run_once: true
"""

RETURN = r"""
offline:
  description: Devices that are not.
  returned: always
  type: list
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import monitor

POLL_S = 0.25


def main():
    """Ask until all are there, or the time is over."""
    module = AnsibleModule(
        argument_spec={
            "devices": {"type": "list", "elements": "str", "required": True},
            "coordinator": {"type": "str", "required": True},
            "wait_s": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + (0 if module.check_mode else module.params["wait_s"])
    while True:
        seen = monitor.devices()
        offline = [name for name in module.params["devices"] if not seen.get(name)]
        if not offline or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    if offline and not module.check_mode:
        if not seen:
            module.fail_json(msg="the coordinator's monitor does not answer", offline=offline)
        module.fail_json(
            msg=f"not online within {module.params['wait_s']:.0f} s: {', '.join(offline)}; "
            "`journalctl -u edgefl-supernode` on the device says why",
            offline=offline,
        )
    module.exit_json(changed=False, offline=offline)


if __name__ == "__main__":
    main()
