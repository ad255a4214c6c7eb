#!/usr/bin/python
"""A device has answered what it was asked, and takes nothing new for a while."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drained
short_description: Let a device finish the message that it works on, and take no other
description:
  - Asks the SuperNode to pause and waits until nothing is under way, so that a restart that follows loses nothing. A SuperNode
    that is not restarted then goes on by itself after two minutes.
  - A SuperNode that does not run, or that knows no pause, is left as it is. Changes nothing.
options:
  wait_s:
    description: How long the message that is under way may take, in seconds.
    type: float
    required: true
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The device is between two messages
  edgefl.host.drained: {wait_s: 180}
"""

RETURN = r"""
drained:
  description: Whether nothing is under way; false where that was not to be had in time.
  returned: always
  type: bool
"""

import os
import signal
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

UNIT = "edgefl-supernode"
POLL_S = 0.1


def knows_pause(pid):
    """Whether the process has a handler for the signal, which would end it otherwise."""
    caught = [line.split()[1] for line in paths.read(f"/proc/{pid}/status").splitlines() if line.startswith("SigCgt:")]
    return bool(caught) and bool(int(caught[0], 16) >> (signal.SIGUSR1 - 1) & 1)


def show():
    """The unit's main process, 0 for none, and what it says of itself."""
    _, shown, _ = run(["systemctl", "show", "--property=MainPID,StatusText,ActiveState", UNIT])
    about = dict(line.split("=", 1) for line in shown.splitlines())
    pid = int(about.get("MainPID") or 0) if about.get("ActiveState") == "active" else 0
    return pid, about.get("StatusText", "")


def main():
    """Ask, then wait."""
    module = AnsibleModule(argument_spec={"wait_s": {"type": "float", "required": True}}, supports_check_mode=True)
    try:
        pid, status = show()
        if module.check_mode or not pid or not knows_pause(pid):
            module.exit_json(changed=False, drained=not pid)
        os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + module.params["wait_s"]
        while pid and not status.startswith("drained") and time.monotonic() < deadline:
            time.sleep(POLL_S)
            pid, status = show()
    except (CommandFailed, OSError) as failure:
        module.fail_json(msg=str(failure))
    module.exit_json(changed=False, drained=not pid or status.startswith("drained"))


if __name__ == "__main__":
    main()
