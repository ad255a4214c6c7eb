"""How a benchmark ends: its figures, and whether its limits hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping


def verdict(figures: Mapping[str, float], limits: Mapping[str, float], *, as_json: bool) -> int:
    """Print the figures, as one object or one a line, and say which are above their limit; the exit code, 1 where one is."""
    if as_json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:26} {value:.4g}")
    above = [name for name, limit in limits.items() if figures[name] > limit]
    sys.stderr.writelines(f"{name} is {figures[name]:.4g}, and at most {limits[name]:g}\n" for name in above)
    return int(bool(above))
