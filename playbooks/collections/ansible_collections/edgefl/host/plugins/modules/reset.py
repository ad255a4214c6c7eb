#!/usr/bin/python
"""Nothing of edgefl is left on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reset
short_description: Take edgefl off a host
description:
  - Ends and removes the services, the walls, identity, configuration and software. The firewall goes last.
  - The data stay. So does what the device has spent of its privacy budget, with the accounts that own it, unless I(forget_state).
options:
  forget_state:
    description: Whether the ledger, the journal, the models and the accounts go too.
    type: bool
    default: false
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: Nothing of edgefl is left on the host
  edgefl.host.reset:
"""

RETURN = r"""
touched:
  description: What was removed, or would be.
  returned: always
  type: list
"""

import contextlib
import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import nft, paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

ACCOUNTS = (
    "edgefl-link",
    "edgefl-server",
    "edgefl-monitor",
    "edgefl-gate",
    "edgefl-node",
    "edgefl-app",
    "edgefl-exporter",
    "edgefl-tunnel",
)
GROUPS = ("edgefl-exec", "edgefl-journal")
UNITS = "/etc/systemd/system/"
LOGS = "/etc/systemd/journald.conf.d/edgefl.conf"
SOFTWARE = ("/etc/edgefl", "/opt/edgefl", "/var/cache/edgefl/bundle", "/var/spool/edgefl", "/var/lib/walls-edgefl", LOGS)
MASKED = ("haproxy", "prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
"""What came with packages, and did not run by itself."""
STATE = "/var/lib/edgefl"


def found(forget_state):
    """Everything of edgefl that is on the host: (units, paths, accounts, groups)."""
    units = [
        os.path.basename(path)
        for pattern in ("edgefl-*.timer", "edgefl-*.service", "*-edgefl.service")
        for path in glob.glob(UNITS + pattern)
    ]
    places = [path for path in SOFTWARE if os.path.lexists(path)] + glob.glob(UNITS + "edgefl-*")
    places += glob.glob(UNITS + "*-edgefl.service")
    masked = [UNITS + name + ".service" for name in MASKED]
    places += [path for path in masked if os.path.islink(path) and os.readlink(path) == "/dev/null"]
    if forget_state and os.path.lexists(STATE):
        places.append(STATE)
    if not forget_state and os.path.lexists(STATE):
        return units, places, [], []  # what stays belongs to them
    users = {line.split(":")[0] for line in paths.read("/etc/passwd").splitlines()}
    groups = {line.split(":")[0] for line in paths.read("/etc/group").splitlines()}
    return units, places, [name for name in ACCOUNTS if name in users], [name for name in GROUPS if name in groups]


def remove(units, places, accounts, groups):
    """Services first, the walls last, so that nothing runs without them."""
    services = [unit for unit in units if unit != "nftables-edgefl.service"]
    if services:
        run(["systemctl", "disable", "--now", "--quiet", *services])
    if "nftables-edgefl.service" in units:
        run(["systemctl", "disable", "--now", "--quiet", "nftables-edgefl.service"])
    for place in places:
        if os.path.islink(place) or os.path.isfile(place):
            os.unlink(place)
        else:
            shutil.rmtree(place)
    run(["systemctl", "daemon-reload"])
    # A package enables its unit while that is masked: unmasked, it would come at the next boot, without walls.
    for unmasked in set(places) & {UNITS + name + ".service" for name in MASKED}:
        run(["systemctl", "disable", "--quiet", os.path.basename(unmasked)], check=False)
    if LOGS in places:
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(LOGS))  # where the host has no such file of its own, it had no directory for them
        run(["systemctl", "restart", "systemd-journald"])  # it keeps as much as before edgefl came
    run(["systemctl", "reset-failed", "edgefl-*"], check=False)
    for account in accounts:
        run(["userdel", account])
    for group in groups:
        run(["groupdel", group])
    if nft.live():
        run(["nft", "delete", "table", *nft.TABLE])


def main():
    """Look, and remove what is there."""
    module = AnsibleModule(argument_spec={"forget_state": {"type": "bool", "default": False}}, supports_check_mode=True)
    units, places, accounts, groups = found(module.params["forget_state"])
    touched = [*places, *accounts, *groups, *(["table inet edgefl"] if nft.live() else [])]
    try:
        if touched and not module.check_mode:
            remove(units, places, accounts, groups)
    except (CommandFailed, OSError) as failure:
        module.fail_json(msg=f"edgefl could not be removed: {failure}", touched=touched)
    before = "".join(line + "\n" for line in touched)
    diff = {"before_header": "edgefl", "after_header": "edgefl", "before": before, "after": ""}
    module.exit_json(changed=bool(touched), touched=touched, diff=diff)


if __name__ == "__main__":
    main()
