#!/usr/bin/python
"""Documentation of the action plugin of the same name; it runs on the controller alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: One verdict over all hosts, before anything is changed on any of them
description:
  - Gathers what M(edgefl.host.facts) found wrong into one block, and fails when the site does not go on without those hosts.
  - Runs once for all hosts (C(run_once)).
options:
  on_failure:
    description: Whether one unfit device stops everything.
    type: str
    choices: [stop, continue]
    required: true
  coordinator:
    description: The coordinator's name; nothing goes on without it.
    type: str
    required: true
  watchers:
    description: Hosts that watch, and that no round needs.
    type: list
    elements: str
    default: []
  quorum:
    description: How many devices must be fit.
    type: int
    required: true
  record:
    description: File on the controller in which M(edgefl.host.standing) wrote how it left the hosts; none means not to ask.
    type: path
    default: ""
  site_file:
    description: The site, for C(record).
    type: path
    default: ""
  state_dir:
    description: Where the site's authority lies, for C(record).
    type: path
    default: ""
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: Every host is fit
  edgefl.host.preflight: {on_failure: stop, coordinator: coordinator, quorum: 3}
  run_once: true
"""

RETURN = r"""
unfit:
  description: Problems by host.
  returned: always
  type: dict
stands:
  description: Whether every host is as the last run left it and nothing else is wanted, so that there is nothing to do.
  returned: always
  type: bool
wants:
  description: A digest by host of what is wanted of it, for M(edgefl.host.standing).
  returned: always
  type: dict
word:
  description: A digest of whom the site's authority trusts, and whom no more, at the run's beginning.
  returned: always
  type: str
"""
