"""Terraform's `-json` lines as progress: a fold from line to events, without a process or a clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edgefl.infra.failure import Diagnostic
from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned

STAGE = "infrastructure"
_DOING = {"create": "is being created", "update": "is being changed", "delete": "is being removed", "read": "is being read"}
_DONE = {"create": "created", "update": "changed", "delete": "removed"}
PLANNED = {
    "create": "will be created",
    "update": "will be changed",
    "delete": "will be removed",
    "replace": "will be replaced",
}


class Stream:
    """What one command's lines have said so far."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.outputs: dict[str, Any] | None = None
        self.changed = 0
        self.planned = 0

    @property
    def errors(self) -> list[Diagnostic]:
        """What went wrong."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]

    def feed(self, line: bytes) -> Iterator[Progress]:
        """The progress that a line means; lines that are no JSON (a crash, a wrapper's word) become diagnostics."""
        text = line.decode(errors="replace").strip()
        if not text:
            return
        try:
            message = json.loads(text)
        except ValueError:
            self.diagnostics.append(Diagnostic("note", text))
            return
        match message.get("type"):
            case "planned_change":
                yield from self._planned(message["change"])
            case "resource_drift":
                name, action = _name(message["change"]["resource"]), message["change"]["action"]
                yield Warned(STAGE, name, "is gone" if action == "delete" else "is not as it was left")
            case "apply_start":
                hook = message["hook"]
                yield Started(STAGE, _name(hook["resource"]), _DOING.get(hook["action"], hook["action"]))
            case "apply_complete":
                yield from self._applied(message["hook"])
            case "outputs":
                self.outputs = {name: output.get("value") for name, output in message["outputs"].items()}
            case "diagnostic":
                yield from self._diagnosed(message["diagnostic"])

    def _planned(self, change: Mapping[str, Any]) -> Iterator[Progress]:
        if what := PLANNED.get(change["action"]):
            self.planned += 1
            detail = {"action": change["action"], "address": change["resource"]["addr"]}
            yield Step(STAGE, _name(change["resource"]), what, changed=True, detail=detail)

    def _applied(self, hook: Mapping[str, Any]) -> Iterator[Progress]:
        if what := _DONE.get(hook["action"]):
            self.changed += 1
            yield Finished(STAGE, _name(hook["resource"]), what, changed=True, seconds=float(hook.get("elapsed_seconds", 0)))

    def _diagnosed(self, said: Mapping[str, Any]) -> Iterator[Progress]:
        subject = _host(str(said.get("address", "")))
        diagnostic = Diagnostic(said["severity"], said["summary"], said.get("detail", ""), subject)
        self.diagnostics.append(diagnostic)
        if diagnostic.severity == "error":
            yield Failed(STAGE, subject, diagnostic.summary, why=diagnostic.detail)
        else:
            yield Warned(STAGE, subject, ": ".join(part for part in (diagnostic.summary, diagnostic.detail) if part))


def _name(resource: Mapping[str, Any]) -> str:
    """The host that a resource stands for: its key, as both modules make one resource a host."""
    return str(resource.get("resource_key") or resource["addr"])


def _host(address: str) -> str:
    """`module.hosts.edgefl_lab_host.host["edge-01"]` → `edge-01`."""
    return address.rpartition('["')[2].removesuffix('"]') if '["' in address else address
