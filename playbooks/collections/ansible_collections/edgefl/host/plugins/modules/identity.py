#!/usr/bin/python
"""A host's keys are made on it; certificates that the authority signed are installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: identity
short_description: Make keys and requests on the host, install what came back
description:
  - C(request) makes missing keys and returns a certificate request for each of I(keys). A private key never leaves the host.
    One that takes another's place waits beside it until its certificate is there, so that what runs goes on with the old pair.
  - C(install) puts certificates, trust anchors and lists in place, and joins key and chain where a service wants one file.
  - Ask through the action plugin of the same name, which signs between the two.
options:
  step:
    description: Which half to do.
    type: str
    choices: [request, install]
    required: true
  name:
    description: The host's name, which is the common name of every request.
    type: str
    required: true
  keys:
    description:
      - The keys that need a certificate, who owns them, and in which directory each lies (C(/etc/edgefl/identity) by default).
        With C(fresh) a new key takes the place of the one that is there.
        C(subject) is who it is for, where that is not the host itself.
    type: list
    elements: dict
    default: []
  node_key:
    description: Owner of the SuperNode's authentication key (ECDSA P-384, OpenSSH); empty for none.
    type: str
    default: ""
  tunnel_key:
    description: Owner of the key of the host's end of the tunnel (WireGuard); empty for none.
    type: str
    default: ""
  certificates:
    description: Chains in PEM by the key's name.
    type: dict
    default: {}
  files:
    description: Public files beside them, as in M(edgefl.host.layout).
    type: list
    elements: dict
    default: []
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The device asks for a certificate
  edgefl.host.identity:
    step: request
    name: edge-01
    keys: [{name: device, owner: edgefl-node, joined: false}]
    node_key: edgefl-node
"""

RETURN = r"""
requests:
  description: Certificate requests in PEM by the key's name.
  returned: when I(step=request)
  type: dict
node_public_key:
  description: The SuperNode's public authentication key.
  returned: when there is one
  type: str
tunnel_public_key:
  description: The public key of the host's end of the tunnel.
  returned: when there is one
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import keys, paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

IDENTITY = "/etc/edgefl/identity"
NEXT = ".next"
"""Ends the name of a key whose certificate is not there yet."""


def request(params):
    """Keys that were missing are made; every key in `keys` signs a request with the host's name."""
    os.makedirs(IDENTITY, mode=0o755, exist_ok=True)
    requests = {}
    for key in params["keys"]:
        path = os.path.join(key["directory"], key["name"] + ".key")
        if key.get("fresh") and os.path.exists(path):
            path += NEXT
        if path.endswith(NEXT) or not os.path.exists(path):
            keys.make(path, key["owner"])
        requests[key["name"]] = keys.request(path, key["subject"] or params["name"])
    sole = {
        "node_public_key": node_key(params["name"], params["node_key"]),
        "tunnel_public_key": tunnel_key(params["tunnel_key"]),
    }
    return {"requests": requests, **sole}


def node_key(name, owner):
    """The SuperNode's authentication key, made when missing; its public half."""
    path = IDENTITY + "/node.key"
    if not owner:
        return ""
    if not os.path.exists(path):
        fresh = path + ".edgefl-new"
        for stale in (fresh, fresh + ".pub"):
            if os.path.exists(stale):
                os.unlink(stale)
        run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", name, "-f", fresh])
        paths.own(fresh, owner, owner, "0600")
        paths.own(fresh + ".pub", "root", "root", "0644")
        os.replace(fresh + ".pub", IDENTITY + "/node.pub")
        os.replace(fresh, path)  # last: a key without its public half would never be made again
    if not os.path.exists(IDENTITY + "/node.pub"):
        public = run(["ssh-keygen", "-y", "-f", path])[1]
        paths.write(IDENTITY + "/node.pub", public.encode(), "root", "root", "0644")
    return paths.read(IDENTITY + "/node.pub").strip()


def tunnel_key(owner):
    """The key of the host's end of the tunnel, made when missing; its public half."""
    path = IDENTITY + "/tunnel.key"
    if not owner:
        return ""
    if not os.path.exists(path):
        paths.write(path, run(["wg", "genkey"])[1].encode(), owner, owner, "0600")
    public = run(["wg", "pubkey"], stdin=paths.read(path))[1]
    if paths.read(IDENTITY + "/tunnel.pub") != public:
        paths.write(IDENTITY + "/tunnel.pub", public.encode(), "root", "root", "0644")
    return public.strip()


def install(params):
    """Chains, joined files, anchors and lists, each replaced by a rename. Returns the paths that changed."""
    with paths.alone(IDENTITY):
        return _install(params)


def _install(params):
    touched = []
    for key in params["keys"]:
        chain = params["certificates"].get(key["name"])
        stem = os.path.join(key["directory"], key["name"])
        if chain:
            # The certificate first: after a power failure between the two, `edgefl.pki.renew` finds the key that fits it.
            paths.write(stem + ".crt", chain.encode(), "root", "root", "0644")
            touched.append(stem + ".crt")
            if key.get("fresh") and os.path.exists(stem + ".key" + NEXT):
                os.replace(stem + ".key" + NEXT, stem + ".key")
        if key["joined"] and os.path.exists(stem + ".crt"):
            joined = paths.read(stem + ".key") + paths.read(stem + ".crt")
            if paths.read(stem + ".pem") != joined:
                paths.write(stem + ".pem", joined.encode(), key["owner"], key["owner"], "0600")
                touched.append(stem + ".pem")
    for file in params["files"]:
        if not os.path.exists(file["path"]) or paths.read(file["path"]) != file["content"]:
            os.makedirs(os.path.dirname(file["path"]), mode=0o755, exist_ok=True)
            paths.write(file["path"], file["content"].encode(), "root", "root", "0644")
            touched.append(file["path"])
    return touched


def main():
    """One of the two halves."""
    key = {
        "name": {"type": "str", "required": True},
        "owner": {"type": "str", "required": True},
        "directory": {"type": "path", "default": IDENTITY},
        "subject": {"type": "str", "default": ""},
        "joined": {"type": "bool", "default": False},
        "fresh": {"type": "bool", "default": False},
    }
    file = {"path": {"type": "path", "required": True}, "content": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["request", "install"], "required": True},
            "name": {"type": "str", "required": True},
            "keys": {"type": "list", "elements": "dict", "default": [], "options": key, "no_log": False},
            "node_key": {"type": "str", "default": "", "no_log": False},
            "tunnel_key": {"type": "str", "default": "", "no_log": False},
            "certificates": {"type": "dict", "default": {}},
            "files": {"type": "list", "elements": "dict", "default": [], "options": file},
        },
    )
    try:
        if module.params["step"] == "request":
            module.exit_json(changed=True, **request(module.params))
        touched = install(module.params)
    except (CommandFailed, OSError, KeyError) as failure:
        module.fail_json(msg=f"the host's identity could not be set: {failure}")
    module.exit_json(changed=bool(touched), touched=touched)


if __name__ == "__main__":
    main()
