#!/usr/bin/python
"""Units are enabled and run with their newest inputs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: services
short_description: Units are enabled and run with their newest inputs
description:
  - A unit is restarted when it was started before its unit file, a drop-in of it, or one of its inputs last changed. This is read
    from the running system, so a restart is never lost when a playbook is interrupted between a change and its handler.
  - With I(wait_s) it returns when every unit is active, which for C(Type=notify) means that the service itself says so.
options:
  units:
    description: The units, in the order in which they start.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The unit.
        type: str
        required: true
      inputs:
        description: Files and links whose change calls for a restart.
        type: list
        elements: path
        default: []
  gone:
    description: Services that must not be there; they are stopped and disabled, then what they ran from is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The service.
        type: str
        required: true
      files:
        description: Files of it beside its unit.
        type: list
        elements: path
        default: []
  touched:
    description: In check mode, by unit, paths that earlier tasks would have changed since they would have started it.
    type: dict
    default: {}
  foreseen:
    description: In check mode, units that an earlier task would have started; they count only where I(touched) says so.
    type: list
    elements: str
    default: []
  wait_s:
    description: How long to wait until all are active, in seconds, less when one fails again and again; 0 returns at once.
    type: float
    default: 0
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The SuperNode is online
  edgefl.host.services:
    units: [{name: edgefl-supernode, inputs: [/etc/edgefl/host.json]}]
    wait_s: 60
"""

RETURN = r"""
restarted:
  description: Units that were started or restarted, or would be.
  returned: always
  type: list
enabled:
  description: Units that were enabled, or would be.
  returned: always
  type: list
removed:
  description: Units that were removed, or would be.
  returned: always
  type: list
"""

import contextlib
import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import units
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

POLL_S = 0.25
"""Between looks at a unit that systemd is about to bring back."""
RESTARTS = 3
"""A unit that came back this often and still is not ready will not become so by waiting."""


def needs_start(unit, state):
    """Whether the unit is down, or older than what it was started from."""
    if state["queued"]:
        return False
    newest = max(state["defined"], units.changed_at(unit["inputs"]))
    is_down = not state["active"] and not _is_starting(state)
    return is_down or state["started"] < newest


def wait(names, wait_s):
    """Wait until all are active; returns what is still wrong, with each unit's last words."""
    deadline = time.monotonic() + wait_s
    while True:
        late = {name: state for name, state in units.states(names).items() if not state["active"]}
        is_hopeless = any(state["restarts"] >= RESTARTS for state in late.values())
        left_s = deadline - time.monotonic()
        if not late or is_hopeless or left_s <= 0:
            return [f"{name} is {state['state']}:\n{units.last_words(name)}" for name, state in late.items()]
        starting = [name for name, state in late.items() if _is_starting(state) or state["queued"]]
        if starting:
            # Joins the job that is under way and sleeps until its end: asking again and again would cost a small host more
            # than the start itself.
            with contextlib.suppress(CommandFailed):
                run(["systemctl", "start", *starting], check=False, timeout_s=left_s)
        else:
            time.sleep(POLL_S)


def remove(gone, *, check):
    """Stop services, then remove what they ran from; which of them left anything behind."""
    found = []
    for service in gone:
        name = service["name"]
        files = [path for path in [f"/etc/systemd/system/{name}.service", *service["files"]] if os.path.lexists(path)]
        if not files:
            continue
        found.append(name)
        if not check:
            if units.states([name])[name]["exists"]:
                run(["systemctl", "disable", "--now", "--quiet", name])
            for path in files:
                os.unlink(path)
            run(["systemctl", "daemon-reload"])
            run(["systemctl", "reset-failed", name], check=False)
    return found


def main():
    """Remove, reload, enable, restart what is old, wait."""
    unit = {"name": {"type": "str", "required": True}, "inputs": {"type": "list", "elements": "path", "default": []}}
    gone = {"name": unit["name"], "files": unit["inputs"]}
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "required": True, "options": unit},
            "gone": {"type": "list", "elements": "dict", "default": [], "options": gone},
            "touched": {"type": "dict", "default": {}},
            "foreseen": {"type": "list", "elements": "str", "default": []},
            "wait_s": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    wanted = module.params["units"]
    names = [unit["name"] for unit in wanted]
    try:
        removed = remove(module.params["gone"], check=module.check_mode)
        before = units.states(names)
        stale = [unit for unit in wanted if needs_start(unit, before[unit["name"]]) and _is_defined_by_inputs(unit)]
        if (stale or any(state["reload"] or not state["exists"] for state in before.values())) and not module.check_mode:
            run(["systemctl", "daemon-reload"])
            before = units.states(names)
        unknown = [name for name in names if not before[name]["exists"]]
        if unknown and not module.check_mode:
            module.fail_json(msg=f"systemd knows no unit {', '.join(unknown)}")
        # For a real run the host tells the truth; in check mode nothing was written or started that could tell.
        touched, foreseen = (module.params["touched"], module.params["foreseen"]) if module.check_mode else ({}, [])
        left = [unit for unit in wanted if unit["name"] not in foreseen]
        disabled = [unit["name"] for unit in left if not before[unit["name"]]["enabled"]]
        old = [unit["name"] for unit in left if needs_start(unit, before[unit["name"]])]
        restarted = [unit["name"] for unit in wanted if unit["name"] in old or _was_touched(unit, touched.get(unit["name"], []))]
        if not module.check_mode:
            if disabled:
                run(["systemctl", "enable", "--quiet", *disabled])
            if restarted:
                run(["systemctl", "reset-failed", *restarted], check=False)
                run(["systemctl", "restart", "--no-block", *restarted])
            late = wait(names, module.params["wait_s"]) if module.params["wait_s"] else []
            if late:
                module.fail_json(msg="\n".join(late), restarted=restarted)
    except (CommandFailed, OSError) as failure:
        module.fail_json(msg=str(failure))
    diff = [_diff(name, before[name], name in restarted) for name in names if name in restarted or name in disabled]
    diff += [{"before_header": name, "after_header": name, "before": "there\n", "after": "removed\n"} for name in removed]
    said = {"restarted": restarted, "enabled": disabled, "removed": removed}
    module.exit_json(changed=bool(disabled or restarted or removed), diff=diff, **said)


def _is_defined_by_inputs(unit):
    """A timer's service is a file that systemd has to read anew, too."""
    return any(path.startswith("/etc/systemd/system/") for path in unit["inputs"])


def _is_starting(state):
    return state["state"].startswith("activating (start")


def _was_touched(unit, touched):
    own = f"/etc/systemd/system/{unit['name']}.service"
    return any(path == own or path in unit["inputs"] for path in touched)


def _diff(name, state, restarts):
    after = "active (restarted)" if restarts else state["state"]
    before = f"{state['state']}, {'enabled' if state['enabled'] else 'disabled'}\n"
    return {"before_header": name, "after_header": name, "before": before, "after": f"{after}, enabled\n"}


if __name__ == "__main__":
    main()
