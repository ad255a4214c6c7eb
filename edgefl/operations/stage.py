"""A chain of stages as one stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from edgefl.progress import Progress


async def chained(*stages: AsyncIterator[Progress]) -> AsyncIterator[Progress]:
    """Each stage's events, one stage after the other; a stage that is cut short is closed before anything else happens."""
    for stage in stages:
        async with aclosing(cast("AsyncGenerator[Progress, None]", stage)) as events:  # every operation is one
            async for event in events:
                yield event
