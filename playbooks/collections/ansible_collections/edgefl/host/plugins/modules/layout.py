#!/usr/bin/python
"""Accounts, directories, files, links and secrets of one host are as given."""

from __future__ import annotations

DOCUMENTATION = r"""
module: layout
short_description: Accounts, directories, files, links and host-made secrets are as given
description:
  - One call for everything that a role lays out on a host.
  - Files are replaced by a rename, with owner and mode set before anybody can see them.
  - A secret is random, made on the host when it is missing, and never leaves it.
options:
  groups:
    description: System groups that exist.
    type: list
    elements: str
    default: []
  accounts:
    description: System accounts without a shell or home, each with its own group, and further groups.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The account.
        type: str
        required: true
      groups:
        description: Further groups, which must exist or stand in I(groups).
        type: list
        elements: str
        default: []
  directories:
    description: Directories, parents before children.
    type: list
    elements: dict
    default: []
  files:
    description: Files, with their whole content.
    type: list
    elements: dict
    default: []
  secrets:
    description: Files of random bytes in hex, made once on the host.
    type: list
    elements: dict
    default: []
  links:
    description: Symbolic links.
    type: list
    elements: dict
    default: []
  absent:
    description: Files and links that must not exist.
    type: list
    elements: path
    default: []
  stopped:
    description: Units that end before anything else is laid out; whoever starts them again does so with what there is by then.
    type: list
    elements: str
    default: []
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The device knows its part of the site
  edgefl.host.layout:
    accounts: [{name: edgefl-node}]
    directories: [{path: /etc/edgefl, owner: root, group: root, mode: "0755"}]
    files: [{path: /etc/edgefl/host.json, content: "{}", owner: root, group: root, mode: "0644"}]
"""

RETURN = r"""
touched:
  description: Paths that were changed, or would be.
  returned: always
  type: list
"""

import hashlib
import os
import secrets

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import paths, units
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

ENTRY = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "required": True},
}
ARGUMENTS = {
    "groups": {"type": "list", "elements": "str", "default": []},
    "accounts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "groups": {"type": "list", "elements": "str", "default": []}},
    },
    "directories": {"type": "list", "elements": "dict", "default": [], "options": ENTRY},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**ENTRY, "content": {"type": "str", "required": True}},
    },
    "secrets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**ENTRY, "bytes": {"type": "int", "default": 32}},
        "no_log": False,  # names and modes; the secrets themselves never leave the host
    },
    "links": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "path", "required": True}, "target": {"type": "str", "required": True}},
    },
    "absent": {"type": "list", "elements": "path", "default": []},
    "stopped": {"type": "list", "elements": "str", "default": []},
}


class Layout:
    """Brings one thing after another about, and remembers what it touched; in check mode it only remembers."""

    def __init__(self, check):
        self.check = check
        self.touched = []
        self.diff = []

    def stopped(self, names):
        """Units do not run; one that the host does not have is left at that."""
        for name, state in units.states(names).items():
            if state["exists"] and not state["state"].startswith(("inactive", "failed")):
                self._touch("unit:" + name, state["state"], "stopped")
                self._run(["systemctl", "stop", name])

    def groups(self, names):
        """System groups exist."""
        present = {line.split(":")[0] for line in paths.read("/etc/group").splitlines()}
        for name in names:
            if name not in present:
                self._touch("group:" + name, "absent", "present")
                self._run(["groupadd", "--system", name])

    def accounts(self, wanted):
        """System accounts exist, in their groups and in no other."""
        present = {line.split(":")[0] for line in paths.read("/etc/passwd").splitlines()}
        members = {line.split(":")[0]: line.split(":")[3].split(",") for line in paths.read("/etc/group").splitlines()}
        for account in wanted:
            name, further = account["name"], ",".join(account["groups"])
            if name not in present:
                self._touch("account:" + name, "absent", "present " + further)
                shell = ["--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
                self._run(["useradd", "--system", "--user-group", *shell, "--groups", further, name])
                continue
            now = sorted(group for group, users in members.items() if name in users)
            if now != sorted(account["groups"]):
                self._touch("account:" + name, ",".join(now), further)
                self._run(["usermod", "--groups", further, name])

    def directory(self, wanted):
        """A directory with its owner and mode."""
        path, target = wanted["path"], _described(wanted, "directory")
        now = paths.describe(path)
        if now == target:
            return
        self._touch(path, _line(now), _line(target))
        if self.check:
            return
        if now is None:
            os.makedirs(path, exist_ok=True)
        paths.own(path, wanted["owner"], wanted["group"], wanted["mode"])

    def file(self, wanted):
        """A file with its whole content."""
        path, content = wanted["path"], wanted["content"].encode()
        target = {**_described(wanted, "file"), "sha256": hashlib.sha256(content).hexdigest()}
        now = paths.describe(path)
        if now == target:
            return
        before = paths.read(path) if now and now["kind"] == "file" else ""
        if before == wanted["content"]:
            self._touch(path, _line(now), _line(target))
        else:
            self._touch(path, before, wanted["content"])
        if not self.check:
            paths.write(path, content, wanted["owner"], wanted["group"], wanted["mode"])

    def secret(self, wanted):
        """A file of random bytes, made once."""
        path, target = wanted["path"], _described(wanted, "file")
        now = paths.describe(path)
        if now == target:
            return
        self._touch(path, _line(now), _line(target))
        if self.check:
            return
        if now is None:
            content = secrets.token_hex(wanted["bytes"]) + "\n"
            paths.write(path, content.encode(), wanted["owner"], wanted["group"], wanted["mode"])
        else:
            paths.own(path, wanted["owner"], wanted["group"], wanted["mode"])

    def link(self, wanted):
        """A symbolic link to its target."""
        now = paths.describe(wanted["path"])
        if now == {"kind": "link", "target": wanted["target"]}:
            return
        self._touch(wanted["path"], _line(now), "-> " + wanted["target"])
        if not self.check:
            paths.link(wanted["path"], wanted["target"])

    def absent(self, path):
        """Nothing lies there."""
        now = paths.describe(path)
        if now is None:
            return
        self._touch(path, _line(now), "absent")
        if not self.check:
            os.unlink(path)

    def _run(self, argv):
        if not self.check:
            run(argv)

    def _touch(self, what, before, after):
        self.touched.append(what)
        self.diff.append({"before_header": what, "after_header": what, "before": _text(before), "after": _text(after)})


def main():
    """Everything in its order: who, where, what."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted, layout = module.params, Layout(module.check_mode)
    try:
        layout.stopped(wanted["stopped"])
        layout.groups(wanted["groups"])
        layout.accounts(wanted["accounts"])
        for kind, act in (
            ("directories", layout.directory),
            ("secrets", layout.secret),
            ("files", layout.file),
            ("links", layout.link),
            ("absent", layout.absent),
        ):
            for entry in wanted[kind]:
                act(entry)
    except (CommandFailed, OSError, KeyError) as failure:
        module.fail_json(msg=f"the host could not be laid out: {failure}", touched=layout.touched)
    module.exit_json(changed=bool(layout.touched), touched=layout.touched, diff=layout.diff)


def _described(wanted, kind):
    return {"kind": kind, "owner": wanted["owner"], "group": wanted["group"], "mode": wanted["mode"]}


def _line(described):
    if described is None:
        return "absent"
    if described["kind"] == "link":
        return "-> " + described["target"]
    return " ".join(described[key] for key in ("kind", "owner", "group", "mode"))


def _text(value):
    return value if value.endswith("\n") else value + "\n"


if __name__ == "__main__":
    main()
