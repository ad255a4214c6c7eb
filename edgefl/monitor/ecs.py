"""A log line as the Elastic Common Schema has it, for Elasticsearch, Logstash, Loki and whatever else takes JSON.

https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html; data streams' names are of its `data_stream.*` fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from edgefl.monitor.logs import LEVELS, LogLine
from edgefl.voice import ECS

DATASET = "edgefl.log"


def document(line: LogLine, site: str) -> dict[str, Any]:
    """The line's fields, nested. `event.id` is the same whenever and by whomever the line is read."""
    said: dict[str, Any] = {
        "@timestamp": line.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "message": line.message,
        "ecs": {"version": ECS},
        "data_stream": {"type": "logs", "dataset": DATASET, "namespace": namespace(site)},
        "event": {"kind": "event", "module": "edgefl", "dataset": DATASET, "id": _identity(line)},
        "host": {"name": line.host},
        "labels": {"site": site},
        "log": {"level": line.level, "syslog": {"severity": {"code": LEVELS.index(line.level), "name": line.level}}},
        "service": {"name": line.unit, "type": "edgefl"},
    }
    return {**said, "error": {"stack_trace": line.trace}} if line.trace else said


def action(document: dict[str, Any]) -> dict[str, Any]:
    """The line before a document in Elasticsearch's `_bulk`: what is there already is refused there, and so stands once."""
    stream = document["data_stream"]
    index = "-".join(stream[part] for part in ("type", "dataset", "namespace"))
    return {"create": {"_index": index, "_id": document["event"]["id"]}}


def dumped(document: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def namespace(site: str) -> str:
    """A site's name as a data stream's namespace, which has no hyphens."""
    return site.replace("-", "_")


def _identity(line: LogLine) -> str:
    said = "\0".join((line.at.isoformat(), line.host, line.unit, line.level, line.message, line.trace))
    return hashlib.sha256(said.encode(errors="replace")).hexdigest()[:32]
