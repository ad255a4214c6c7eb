"""What an Ansible run says, as edgefl's progress: a pure fold over ansible-runner's event stream."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgefl.progress import Failed, Finished, Progress, Started, Step, Warned

STAGE = "configuration"
Reason = Literal["failed", "unreachable", "unfit", "stopped", "bundle"]

_FIXES = (
    (r"bundle is corrupt|bundle .* cannot be read", "rm -r .edgefl/bundle, then edgefl up"),
    (r"bundle is not signed", "edgefl bundle verify, then edgefl bundle build where the authority's key lies"),
    (r"not among isolation.operator_addresses", "add this machine's address to isolation.operator_addresses in site.yaml"),
    (r"cut this connection", "check isolation.operator_addresses in site.yaml, then edgefl up"),
    (r"was revoked", "edgefl devices shows why; a device comes back with a new identity only"),
    (r"passphrase", "set EDGEFL_PASSPHRASE to the authority's passphrase"),
    (r"No space left|full disk", "free space on {host}, then edgefl up"),
    (r"is not installed on this host|dpkg", "install it on {host}, or build the bundle on the hosts' Debian release"),
    (r"not online within", "edgefl logs {host} shows what the SuperNode says"),
    (r"clock is", "synchronise the clock of {host} (systemd-timesyncd, chrony), then edgefl up"),
)

_TOLD = ("item", "msg", "rc", "cmd", "stdout", "stderr", "module_stdout", "module_stderr", "exception", "censored")
_NO_TRACEBACK = "(traceback unavailable)"
_LONGEST = 4000
"""The end of a long text says what went wrong."""


@dataclass(frozen=True, slots=True)
class HostFailure:
    """Why a host's part of the run ended early. task: the fact that could not be brought about."""

    host: str
    task: str
    why: str
    reason: Reason

    @property
    def hint(self) -> str:
        """The likely fix."""
        return likely_fix(self.why, self.host)


@dataclass
class Account:
    """The run so far: what failed where, and the totals that Ansible gives at the end."""

    check: bool = False
    failures: list[HostFailure] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    printed: str = ""
    """The end of what Ansible printed, for a run that never came to its first task."""
    play: str = ""
    """What begins with its first task: a play that has no host begins, for Ansible, too."""

    def tell(self, event: Mapping[str, Any]) -> Iterator[Progress]:
        """Fold one runner event in, and say it in progress."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        if kind == "printed":
            self.printed = _plain(event["stdout"])
        elif kind == "playbook_on_play_start":
            self.play = data.get("name", "")
        elif kind == "playbook_on_task_start" and self.play:
            yield Started(STAGE, "", self.play)
            self.play = ""
        elif kind == "runner_on_ok" and not _is_plumbing(data):
            yield self._done(data)
        elif kind in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            yield self._failed(data, is_reachable=kind == "runner_on_failed")
        elif kind == "playbook_on_stats":
            yield from self._hosts(data)

    @property
    def stopping(self) -> list[HostFailure]:
        """Failures that the site does not go on without."""
        return [failure for failure in self.failures if failure.reason != "unfit"]

    def _done(self, data: Mapping[str, Any]) -> Step:
        result = data.get("res", {})
        changed = bool(result.get("changed"))
        detail: dict[str, Any] = {"role": data.get("role", "")}
        if changed and (diff := result.get("diff")):
            detail["diff"] = [diff] if isinstance(diff, dict) else diff
        if renewed := result.get("renewed"):
            detail["renewed"] = renewed
        if restarted := result.get("restarted"):
            detail["restarted"] = restarted
        if pushed := result.get("pushed"):
            detail["pushed"] = len(pushed)
        seconds = float(data.get("duration") or 0.0)
        return Step(STAGE, data["host"], _task(data), changed=changed, seconds=seconds, detail=detail)

    def _failed(self, data: Mapping[str, Any], *, is_reachable: bool) -> Progress:
        host, action = data.get("host", ""), data.get("task_action", "")
        why = _why(data.get("res", {}))
        if action == "edgefl.host.preflight":
            failure = HostFailure("", _task(data), why, "stopped")
        elif action in ("ansible.builtin.fail", "fail") and data.get("role") == "preflight":
            failure = HostFailure(host, _task(data), why, "unfit")
        elif re.search(r"bundle is (corrupt|not signed)", why):
            failure = HostFailure(host, _task(data), why, "bundle")
        else:
            failure = HostFailure(host, _task(data), why, "failed" if is_reachable else "unreachable")
        self.failures.append(failure)
        if failure.reason == "unfit":
            return Warned(STAGE, host, f"left out: {why}", hint=failure.hint)
        detail = {"role": data.get("role", ""), "action": action, "result": _telling(data.get("res", {}))}
        return Failed(STAGE, failure.host, failure.task, why=why, hint=failure.hint, detail=detail)

    def _hosts(self, data: Mapping[str, Any]) -> Iterator[Progress]:
        broken = {failure.host for failure in self.failures}
        for host in data.get("processed", {}):
            self.changed[host] = int(data.get("changed", {}).get(host, 0))
            if host not in broken:
                yield Finished(STAGE, host, _outcome(self.changed[host], check=self.check), changed=bool(self.changed[host]))


def likely_fix(why: str, host: str) -> str:
    """What most often helps against a failure that reads like this."""
    for pattern, fix in _FIXES:
        if re.search(pattern, why):
            return fix.format(host=host or "the host")
    return f"edgefl doctor {host}".strip()


def _outcome(changes: int, *, check: bool) -> str:
    if not changes:
        return "as the site says"
    things = "one thing" if changes == 1 else f"{changes} things"
    return f"{things} would change" if check else f"{things} changed"


def _task(data: Mapping[str, Any]) -> str:
    return str(data.get("task", "")) or str(data.get("name", ""))


def _why(result: Mapping[str, Any]) -> str:
    said = str(result.get("stderr") or "").strip() if result.get("cmd") else ""
    return said or str(result.get("msg") or result.get("exception") or "it gave no reason").removeprefix("Task failed: ").strip()


def _telling(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a module's result says about its failure, without the arguments that it was given; of a loop, what failed in it."""
    said = {key: value for key in _TOLD if (value := result.get(key)) and value != _NO_TRACEBACK}
    told = {key: value[-_LONGEST:] if isinstance(value, str) else value for key, value in said.items()}
    if broken := [_telling(each) for each in result.get("results", ()) if isinstance(each, dict) and each.get("failed")]:
        told["results"] = broken
    return told


def _is_plumbing(data: Mapping[str, Any]) -> bool:
    """Steps that an operator gains nothing from: checks of the roles' own arguments."""
    return str(data.get("task_action", "")).endswith("validate_argument_spec")


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
