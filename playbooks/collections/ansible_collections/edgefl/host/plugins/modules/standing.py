#!/usr/bin/python
"""Documentation of the action plugin of the same name; it runs on the controller alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: standing
short_description: Write down how a run leaves its hosts
description:
  - Keeps two digests per host, of what was wanted and of what M(edgefl.host.facts) said after it was done.
  - Runs once for all hosts (C(run_once)), after they were read again. A host on which something fails is left out.
options:
  record:
    description: File on the controller.
    type: path
    required: true
  wants:
    description: As M(edgefl.host.preflight) returned it.
    type: dict
    required: true
  word:
    description: A digest of the authority's word that the hosts got, from M(edgefl.host.preflight) or M(edgefl.host.renewal).
    type: str
    required: true
author: [The edgefl authors]
"""

EXAMPLES = r"""
- name: How the run leaves its hosts is written down
  edgefl.host.standing:
    record: /srv/site/.edgefl/ansible/standing.json
    wants: "{{ verdict.wants }}"
    word: "{{ verdict.word }}"
  run_once: true
"""

RETURN = r"""
"""
