"""Under which names a play keeps what it knows; apart from what needs Ansible, so that pure parts can be used without it."""

from __future__ import annotations

FACT = "edgefl"
TOUCHED = "touched"
"""Inside the fact: what this play changed on the host, or in check mode would have changed."""
FORESEEN = "foreseen"
"""Inside the fact, in check mode: the units that this play would have started, each with how much it had touched by then."""
