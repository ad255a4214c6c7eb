"""The JSON schema of site.yaml, for editors: `python -m edgefl.site.schema > docs/site.schema.json`."""

from __future__ import annotations

import json
import sys
from typing import Any

from edgefl.site.model import Site


def schema() -> dict[str, Any]:
    """The schema with every field's docstring as its description."""
    described = _untitled(Site.model_json_schema())
    for section in described["properties"].values():
        if "$ref" in section:  # `privacy:` with nothing under it means its defaults
            section["anyOf"] = [{"$ref": section.pop("$ref")}, {"type": "null"}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgefl site.yaml", **described}


def text() -> str:
    """The schema as the published file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _untitled(node: Any) -> Any:
    """Without pydantic's generated titles, which only repeat the keys."""
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if isinstance(node, dict):
        return {key: _untitled(value) for key, value in node.items() if key != "title" or not isinstance(value, str)}
    return node


if __name__ == "__main__":
    sys.stdout.write(text())
