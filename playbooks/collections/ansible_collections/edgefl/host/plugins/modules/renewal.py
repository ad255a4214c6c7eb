#!/usr/bin/python
"""The coordinator's renewal authority: its key is made there, and its list signed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: renewal
short_description: The coordinator's renewal authority
description:
  - C(request) makes another key for it, which waits beside the one in use, and returns a certificate request.
  - C(install) puts key and certificate in place and returns the authority's own, empty revocation list. The key never leaves the
    host.
  - Ask through the action plugin of the same name, which signs between the two.
options:
  step:
    description: Which half to do.
    type: str
    choices: [request, install]
    required: true
  name:
    description: The host's name, which is the request's common name.
    type: str
    required: true
  owner:
    description: The account that signs with it.
    type: str
    required: true
  certificate:
    description: In PEM, for C(install); empty where the one that is there only signs its list again.
    type: str
    default: ""
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: The coordinator asks for an authority of its own
  edgefl.host.renewal:
    step: request
    name: coordinator
    owner: edgefl-monitor
"""

RETURN = r"""
request:
  description: The certificate request, in PEM.
  returned: when I(step=request)
  type: str
revocations:
  description: The authority's own list, in PEM.
  returned: when I(step=install)
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgefl.host.plugins.module_utils import keys, paths
from ansible_collections.edgefl.host.plugins.module_utils.process import CommandFailed, run

DIRECTORY = "/etc/edgefl/renewal"
STEM = DIRECTORY + "/renewal"
NEXT = STEM + ".key.next"
PYTHON = "/opt/edgefl/venv/bin/python"
LIST = (
    "from pathlib import Path; from edgefl.pki.renewal import RenewalAuthority;"
    f" print(RenewalAuthority.load(Path({DIRECTORY!r})).revocations().decode(), end='')"
)


def request(params):
    """A key that waits for its certificate, and the request for it."""
    keys.make(NEXT, params["owner"])
    return keys.request(NEXT, params["name"])


def install(params):
    """Certificate and key in place, and the list that this key signs."""
    if params["certificate"]:
        paths.write(STEM + ".crt", params["certificate"].encode(), "root", "root", "0644")
        os.replace(NEXT, STEM + ".key")
    command = ["/usr/sbin/runuser", "--user=" + params["owner"], "--", PYTHON, "-c", LIST]
    environment = {"PYTHONPATH": "/opt/edgefl/current", "PYTHONDONTWRITEBYTECODE": "1"}
    return run(command, env=environment)[1]


def main():
    """One of the two halves."""
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["request", "install"], "required": True},
            "name": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "certificate": {"type": "str", "default": ""},
        },
    )
    try:
        if module.params["step"] == "request":
            module.exit_json(changed=True, request=request(module.params))
        said = install(module.params)
    except (CommandFailed, OSError) as failure:
        module.fail_json(msg=f"the coordinator's renewal authority could not be set up: {failure}")
    module.exit_json(changed=True, revocations=said, touched=[STEM + ".crt"])


if __name__ == "__main__":
    main()
