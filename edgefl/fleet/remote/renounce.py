"""The host gives up its identity: keys and certificates go, so that it can only come back with new ones. Runs as root on it.

Prints {"gone": […]}. The ledger, the data and what the device keeps of trainings are not touched.
"""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = Path("/etc/edgefl")
OWN = (
    "identity/device.*",
    "identity/node.*",
    "signing/signer.*",
    "identity/exporter.*",
    "identity/scraper.*",
    "identity/tunnel.*",
)


def main() -> None:
    """Delete, and say what went."""
    gone = sorted(path for pattern in OWN for path in CONFIG.glob(pattern))
    for path in gone:
        path.unlink()
    print(json.dumps({"gone": [str(path) for path in gone]}))  # noqa: T201 — the operator's side reads it


if __name__ == "__main__":
    main()
