#!/usr/bin/python
"""One host's whole relevant state, read in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: Read everything that edgefl's roles decide by
description:
  - Reads the machine, its clock, accounts, files (by hash), units, the live firewall, certificates and the runtime.
  - Changes nothing. The content of private keys and secrets is never read, not even hashed.
options:
  roots:
    description: Directories whose every entry is described.
    type: list
    elements: path
    default: []
  paths:
    description: Single paths that are described.
    type: list
    elements: path
    default: []
  units:
    description: Units whose state is read.
    type: list
    elements: str
    default: []
  accounts:
    description: Accounts that are looked up.
    type: list
    elements: str
    default: []
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The host says what it is
  edgefl.host.facts:
    roots: [/etc/edgefl]
    units: [edgefl-supernode]
"""

RETURN = r"""
ansible_facts:
  description: The state, under C(edgefl).
  returned: always
  type: dict
"""

import glob
import grp
import os
import platform
import pwd
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import monitor, nft, paths, units
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run, which

COMMANDS = ("nft", "openssl", "ssh-keygen", "haproxy", "systemctl", "unshare")
TUNNELLING = ("wg", "wireguard-go")
WATCHING = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
FIREWALL = "/etc/edgefl/firewall.nft"
IDENTITY = "/etc/edgefl/identity"
SIGNER = "/etc/edgefl/signing/signer"
RENEWAL = "/etc/edgefl/renewal/renewal"


def machine():
    """Architecture, distribution, Python, memory and free space."""
    release = dict(line.rstrip("\n").split("=", 1) for line in paths.read("/etc/os-release").splitlines() if "=" in line)
    memory = dict(line.split(":", 1) for line in paths.read("/proc/meminfo").splitlines())
    return {
        "architecture": platform.machine(),
        "distribution": release.get("ID", "").strip('"'),
        "release": release.get("VERSION_ID", "").strip('"'),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mb": int(memory["MemTotal"].split()[0]) // 1024,
        "free_mb": {place: _free_mb(place) for place in ("/opt", "/var", "/tmp")},
        "systemd": os.path.isdir("/run/systemd/system"),
    }


def accounts(names):
    """{account: its groups}, its own group first; only those that exist."""
    found = {}
    for name in names:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        own = grp.getgrgid(account.pw_gid).gr_name
        found[name] = [own, *sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem and group.gr_name != own)]
    return found


def described(roots, single):
    """({path: description}, {path: when it changed}) of everything under `roots`, and of `single` (globs are expanded)."""
    wanted = [path for pattern in single for path in glob.glob(pattern)]
    for root in roots:
        if os.path.isdir(root):
            wanted.append(root)
        for directory, subdirectories, files in os.walk(root):
            wanted += [os.path.join(directory, name) for name in [*subdirectories, *files]]
    return {path: paths.describe(path) for path in wanted}, {path: units.changed_at([path]) for path in wanted}


def firewall():
    """Digests of the live table and of what the persisted ruleset would load as."""
    if not os.path.exists(FIREWALL) or which("nft") is None:
        return {"live": nft.digest(nft.live()), "expected": ""}
    try:
        return {"live": nft.digest(nft.live()), "expected": nft.digest(nft.expected(FIREWALL))}
    except CommandFailed as failure:
        return {"live": nft.digest(nft.live()), "expected": "", "broken": str(failure)}


def identity():
    """Public parts of what the host is known by: certificates, public keys, lists."""
    keys = sorted(glob.glob(IDENTITY + "/*.key") + glob.glob(SIGNER + ".key"))
    certificates = glob.glob(IDENTITY + "/*.crt") + glob.glob(SIGNER + ".crt")
    found = {
        "certificates": {_stem(path): paths.read(path) for path in certificates},
        "public_keys": {},
        "crl": paths.read(IDENTITY + "/crl.pem"),
        "node_public_key": paths.read(IDENTITY + "/node.pub").strip(),
        "tunnel_public_key": paths.read(IDENTITY + "/tunnel.pub").strip(),
    }
    for path in keys:
        if _stem(path) not in ("node", "tunnel"):
            code, public, _ = run(["openssl", "pkey", "-in", path, "-pubout"], check=False)
            found["public_keys"][_stem(path)] = public if code == 0 else ""
    if os.path.exists(RENEWAL + ".crt"):
        code, public, _ = run(["openssl", "pkey", "-in", RENEWAL + ".key", "-pubout"], check=False)
        found["renewal"] = {"certificate": paths.read(RENEWAL + ".crt"), "public_key": public if code == 0 else ""}
    return found


def runtime():
    """What is completely installed."""
    return {
        kind: sorted(os.path.basename(os.path.dirname(mark)) for mark in glob.glob(f"/opt/edgefl/{kind}/*/.complete"))
        for kind in ("venvs", "releases")
    }


def main():
    """Read, and say."""
    clock = time.time()
    module = AnsibleModule(
        argument_spec={
            "roots": {"type": "list", "elements": "path", "default": []},
            "paths": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "accounts": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    here = machine()
    try:
        found, changed = described(wanted["roots"], wanted["paths"])
        state = {
            "clock": clock,
            "machine": here,
            "commands": {command: which(command) for command in COMMANDS + WATCHING + TUNNELLING},
            "accounts": accounts(wanted["accounts"]),
            "paths": found,
            "changed_at": changed,
            "units": units.states(wanted["units"]) if here["systemd"] else {},
            "firewall": firewall(),
            "identity": identity(),
            "runtime": runtime(),
            "nodes": paths.read("/etc/edgefl/nodes.json"),
            "tunnel": {"settings": paths.read("/etc/edgefl/tunnel.json"), "by": paths.read("/run/tunnel-edgefl/by").strip()},
            "devices": monitor.devices() if os.path.exists(monitor.SOCKET) else {},
        }
    except (CommandFailed, OSError) as failure:
        module.fail_json(msg=str(failure))
    module.exit_json(changed=False, ansible_facts={"edgefl": state})


def _free_mb(place):
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize // (1 << 20)


def _stem(path):
    return os.path.splitext(os.path.basename(path))[0]


if __name__ == "__main__":
    main()
