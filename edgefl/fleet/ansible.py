"""Ansible, driven: a playbook's run as a stream of progress that can be stopped at any point.

ansible-runner starts `ansible-playbook` and reads its events in a thread, so the operator's loop never waits for it. Nothing is
scraped from output. The run's record lies in `.edgefl/ansible/runner/artifacts/`; no secret comes near it, since keys stay on
their hosts and the authority's passphrase travels in memory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgefl.errors import EdgeflError, ExitCode
from edgefl.fleet import leftovers, rendering
from edgefl.fleet.ansible_events import STAGE, Account, HostFailure
from edgefl.infra.inventory import Inventory
from edgefl.progress import Finished, Progress, Started
from edgefl.share import share
from edgefl.site.model import Site

PASSPHRASE = "EDGEFL_PASSPHRASE"  # noqa: S105  # the variable's name
PASSPHRASE_FILE = "EDGEFL_PASSPHRASE_FILE"  # noqa: S105  # the variable's name
_KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_", "TMPDIR", "SSH_AUTH_SOCK", "EDGEFL_CACHE", "VIRTUAL_ENV")
"""What a run gets of the operator's environment: the runner records it, and other variables may be secrets."""
_OURS = {"ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_CACHE_PLUGIN": "memory"}
"""The runner would switch the check of host keys off, and keep facts on disk that a later run could mistake for the truth."""
_KEPT_RECORDS = 5

Event = dict[str, Any]


class AnsibleFailed(EdgeflError):
    """A playbook could not bring a host to what the site says."""

    exit_code = ExitCode.ANSIBLE_FAILED


class HostsUnreachable(AnsibleFailed):
    """Hosts did not answer."""

    exit_code = ExitCode.UNREACHABLE


class BundleRefused(AnsibleFailed):
    """Hosts did not take the bundle: it is corrupt, or nobody whom they trust signed it."""

    exit_code = ExitCode.BUNDLE_INVALID


class HostsUnfit(AnsibleFailed):
    """Preflight stopped the run before anything was changed."""

    exit_code = ExitCode.PREFLIGHT_FAILED


async def converge(
    site: Site,
    inventory: Inventory,
    bundle: rendering.Release | None,
    playbook: str = "site.yml",
    *,
    limit: Sequence[str] | None = None,
    check: bool = False,
    diff: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> AsyncIterator[Progress]:
    """Bring the hosts to what the site says, or with `check` say what that would change; a second time changes nothing.

    bundle: what is put on hosts; None for a playbook that puts nothing there. limit: the names of hosts that take part; None
    means all. diff: a change's Step carries `detail["diff"]`. extra: variables of this run alone.
    Cancelled anywhere, the playbook ends and the next run goes on from there. Raises AnsibleFailed and its kin after the run,
    naming every host that failed; a device that is left out as the site allows is only warned about.
    """
    began = time.monotonic()
    rendered = await asyncio.to_thread(rendering.write, site, inventory, bundle)
    names = [host.name for host in inventory.hosts if limit is None or host.name in set(limit)]
    yield Started(STAGE, "", f"{'check' if check else 'converge'} {len(names)} hosts", total=len(names))
    account = Account(check=check)
    arguments = {
        "playbook": str(share("playbooks") / playbook),
        "inventory": str(rendered.inventory),
        "limit": None if len(names) == len(inventory.hosts) else ",".join(names),
        "extravars": dict(extra) if extra else None,
        "cmdline": " ".join(flag for flag, on in (("--check", check), ("--diff", diff or check)) if on) or None,
    }
    async for event in _events(site.state / "ansible" / "runner", rendered.configuration, arguments):
        for progress in account.tell(event):
            yield progress
    if account.stopping or not account.changed:
        raise _failure(account)
    changed = sum(1 for changes in account.changed.values() if changes)
    what = "every host is as the site says" if not changed else f"{changed} of {len(account.changed)} hosts changed"
    yield Finished(STAGE, "", what, changed=bool(changed) and not check, seconds=time.monotonic() - began)


async def _events(directory: Path, configuration: Path, arguments: Mapping[str, Any]) -> AsyncIterator[Event]:
    """The events of one run, as they happen. Leaving early ends the playbook before this returns."""
    loop, events, cancelled = asyncio.get_running_loop(), asyncio.Queue[Event | None](), threading.Event()

    def heard(event: Event) -> bool:
        loop.call_soon_threadsafe(events.put_nowait, event)
        return False  # the runner need not keep a file of it

    def work() -> str:
        try:
            return _run(directory, configuration, arguments, heard, cancelled.is_set)
        finally:
            loop.call_soon_threadsafe(events.put_nowait, None)

    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while (event := await events.get()) is not None:
            yield event
        yield {"event": "printed", "stdout": await running}
    finally:
        cancelled.set()
        while not running.done():  # a second cancellation must not leave the playbook behind
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                continue
            except Exception:  # noqa: BLE001  # it was already raised above, or the caller has left
                break


def _run(
    directory: Path,
    configuration: Path,
    arguments: Mapping[str, Any],
    heard: Callable[[Event], bool],
    is_cancelled: Callable[[], bool],
) -> str:
    """Run a playbook to its end and return the last of what it printed; AnsibleFailed when it could not even be started."""
    import ansible_runner
    from ansible_runner.exceptions import AnsibleRunnerException

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.rmtree(directory / "env", ignore_errors=True)  # files there would outrank what is passed here
    with _passphrase() as secret:
        try:
            runner = ansible_runner.interface.init_runner(
                private_data_dir=str(directory),
                ident=f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}",
                rotate_artifacts=_KEPT_RECORDS,
                quiet=True,
                suppress_env_files=True,
                settings={"pexpect_timeout": 0.2},
                event_handler=heard,
                cancel_callback=is_cancelled,
                **{name: value for name, value in arguments.items() if value is not None},
            )
            runner.config.env = {**_environment(runner.config.env), **_OURS, "ANSIBLE_CONFIG": str(configuration), **secret}
            try:
                runner.run()
            finally:
                if runner.status not in ("successful", "failed"):
                    leftovers.end(Path(runner.config.artifact_dir))
        except AnsibleRunnerException as error:
            raise AnsibleFailed(f"the playbook could not be started: {error}", hint="edgefl doctor") from error
        with runner.stdout as printed:
            return str(printed.read()).strip()[-500:]


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """What the runner needs, and what of the operator's environment is known to be no secret."""
    own = ("ANSIBLE_", "AWX_", "RUNNER_", "PYTHON")
    kept = {name: value for name, value in given.items() if name.startswith((*own, *_KEPT_ENVIRONMENT))}
    # The ansible-playbook of this installation, whatever else is on the PATH.
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}


@contextmanager
def _passphrase() -> Iterator[dict[str, str]]:
    """Hand the authority's passphrase over in memory: in the environment it would stand in the runner's record."""
    passphrase = os.environ.get(PASSPHRASE)
    if not passphrase:
        yield {}
        return
    descriptor = os.memfd_create("edgefl-passphrase")
    try:
        os.write(descriptor, passphrase.encode())
        yield {PASSPHRASE_FILE: f"/proc/{os.getpid()}/fd/{descriptor}"}
    finally:
        os.close(descriptor)


def _failure(account: Account) -> AnsibleFailed:
    failures = account.stopping
    if not failures:
        return AnsibleFailed(f"the playbook did not run: {account.printed or 'it ended without a word'}", hint="edgefl doctor")
    kinds = {failure.reason for failure in failures}
    what = "\n  ".join(_line(failure) for failure in failures)
    whole = {"unreachable": HostsUnreachable, "bundle": BundleRefused}
    error = (
        HostsUnfit if "stopped" in kinds else whole.get(next(iter(kinds)), AnsibleFailed) if len(kinds) == 1 else AnsibleFailed
    )
    return error(what, hint=failures[0].hint)


def _line(failure: HostFailure) -> str:
    return f"{failure.host}: {failure.task}: {failure.why}" if failure.host else failure.why
