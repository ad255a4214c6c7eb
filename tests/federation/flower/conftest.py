"""Services that are run within a test's own process."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def speaks_anew() -> Iterator[None]:
    """What a service says goes to the stderr of its own test, not to that of whichever was first."""
    yield
    logging.getLogger("edgefl").handlers.clear()
