"""Every exit code that a command really ends with stands in that command's own --help."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefl.cli import main
from edgefl.errors import ExitCode
from edgefl.infra.inventory import Host, Inventory
from edgefl.operations.lock import site_lock
from edgefl.site import load

NAMES = list(main.COMMANDS)
WATCHING = ("devices", "logs", "models list", "rounds", "run", "status", "stop")
"""Commands that ask the monitor."""
ENROL = ("enrol token", "enrol sign")
TOKEN = "enrol token edge-01"
APART = ("quarantine edge-01 --yes --why lost", "release edge-01 --why found")
SITE = """\
name: clinic
infrastructure: {module: static}
coordinator: {address: 127.0.0.1}
devices: [{name: edge-01, address: 127.0.0.2}]
isolation: {operator_addresses: [127.0.0.3]}
"""

Help = Callable[[str], str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Help:
    def show(name: str) -> str:
        with pytest.raises(SystemExit, match=r"^0$"):
            main.run([name, "--help"])
        return capsys.readouterr().out

    return show


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid site of devices that exist, here; on a machine without what hosts have, so that no task is imported."""
    (tmp_path / "site.yaml").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgefl.operations.task.find_spec", lambda _: None)
    return tmp_path


def documented(text: str) -> set[int]:
    """The numbers in the section `exit codes` of a command's help, ranges in full."""
    section = text.partition("\nexit codes: ")[2].replace("any command: ", "· ")
    found: set[int] = set()
    for item in re.split(r"·|\n", section):
        if number := re.match(r"\s*(\d+)(?:-(\d+))? \S", item):
            first, last = int(number[1]), int(number[2] or number[1])
            found |= {code for code in map(int, ExitCode) if first <= code <= last}
    return found


def provision(site: Path, *, passphrase: str | None = None) -> None:
    """What `up` leaves in `.edgefl`, on hosts of which none answers."""
    from edgefl.pki.authority import Authority

    loaded = load(site)
    Authority.open(loaded.state, site=loaded, passphrase=passphrase)
    known = {"address": "127.0.0.1", "port": 9, "user": "root", "host_key": "ssh-ed25519 AAAA"}
    hosts = (Host("coordinator", "coordinator", **known), Host("edge-01", "device", **known))
    Inventory(hosts).save(loaded.state / "inventory.json")


@pytest.mark.parametrize("name", NAMES)
def test_help_names_codes_that_exist_and_those_of_every_command(name: str, shown: Help) -> None:
    text = shown(name)
    section = text.partition("\nexit codes: ")[2]
    assert documented(text) >= {0, 1, 2, 130}
    assert {int(number) for number in re.findall(r"(?:^|· |\n {12}|: )(\d+) ", section)} <= set(map(int, ExitCode))


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_at_least_two_examples(name: str, shown: Help) -> None:
    lines = shown(name).partition("\nexamples:\n")[2].splitlines()
    examples = [line for line in lines if re.match(rf"  (?:[A-Z_]+=\S+ )?edgefl {name}\b", line)]
    assert len(examples) >= 2


def ends(command: str, shown: Help, capsys: pytest.CaptureFixture[str]) -> int:
    """The code that the command ends with, after making sure that its help has it."""
    code = main.run(command.split())
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "unexpected" not in said.err
    name = command.split(maxsplit=1)[0]
    assert code in documented(shown(name)), f"edgefl {name} --help does not name {code}: {said.err}"
    return code


@pytest.mark.parametrize(
    "command", ["check", "plan", "up", "down", *WATCHING, *APART, "verify", "doctor", "audit baseline", TOKEN, "export traces"]
)
def test_no_site(command: str, shown: Help, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ends(command, shown, capsys) == ExitCode.SITE_INVALID


@pytest.mark.parametrize("command", ["check", "plan", "up"])
def test_no_task(command: str, shown: Help, capsys, site: Path) -> None:
    (site / "site.yaml").write_text(SITE + "task: {module: nowhere}\n")
    assert ends(command, shown, capsys) == ExitCode.TASK_INVALID


@pytest.mark.parametrize("command", [*WATCHING, *APART, "verify", "doctor", "certs list", "certs rotate", TOKEN])
def test_no_hosts(command: str, shown: Help, capsys, site: Path) -> None:
    assert ends(command, shown, capsys) == ExitCode.NOT_PROVISIONED


@pytest.mark.parametrize("command", ["plan", "up", "down --yes", *APART])
def test_another_operation_at_work(command: str, shown: Help, capsys, site: Path) -> None:
    if command in APART:
        provision(site)
    with site_lock(load(site), "up"):
        assert ends(command, shown, capsys) == ExitCode.LOCKED


@pytest.mark.parametrize("command", ["up", "demo .", "lab list"])
def test_a_machine_that_holds_no_lab(command: str, shown: Help, capsys, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgefl.lab.machine import Missing

    (site / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    monkeypatch.setattr("edgefl.lab.machine.requirements", lambda: [Missing("root", "run it with sudo")])
    assert ends(command, shown, capsys) == ExitCode.NEEDS_ROOT


def test_a_lab_host_that_is_not_there(shown: Help, capsys, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefl.lab.machine.requirements", list)
    assert ends("lab kill host-09", shown, capsys) == ExitCode.LAB_FAILED


@pytest.mark.parametrize("command", [*WATCHING, *APART, TOKEN])
def test_an_authority_whose_key_does_not_open(command: str, shown: Help, capsys, site: Path) -> None:
    provision(site, passphrase="of the other machine")
    assert ends(command, shown, capsys) == ExitCode.PKI_FAILED


@pytest.mark.parametrize("command", [*WATCHING, APART[1], TOKEN])
def test_a_coordinator_that_does_not_answer(command: str, shown: Help, capsys, site: Path) -> None:
    provision(site)
    assert ends(command, shown, capsys) == ExitCode.MONITOR_UNREACHABLE


@pytest.mark.parametrize("command", ["export traces", "export mlflow"])
def test_a_service_that_is_not_named_then_not_reached(command: str, shown: Help, capsys, site: Path) -> None:
    assert ends(command, shown, capsys) == ExitCode.USAGE
    watch = "{traces: {endpoint: 'http://127.0.0.1:9/v1/traces'}, mlflow: {server: 'http://127.0.0.1:9', secret_file: secret}}"
    (site / "site.yaml").write_text(f"{SITE}observability: {watch}\n")
    (site / "secret").write_text("hunter2")
    assert ends(command, shown, capsys) == ExitCode.NOT_PROVISIONED
    provision(site)
    assert ends(command, shown, capsys) == ExitCode.MONITOR_UNREACHABLE
    (site / "secret").unlink()
    assert ends("export mlflow", shown, capsys) == ExitCode.SITE_INVALID


@pytest.mark.parametrize(("command", "code"), [("verify", ExitCode.UNREACHABLE), ("doctor", ExitCode.DEGRADED)])
def test_a_host_that_does_not_answer(command: str, code: ExitCode, shown: Help, capsys, site: Path) -> None:
    provision(site)
    (site / ".edgefl" / "operator").mkdir(exist_ok=True)
    assert ends(command, shown, capsys) == code


@pytest.mark.parametrize(
    "command", ["verify", "doctor", "logs", "audit baseline --data", "release --why found", "enrol token", "enrol sign"]
)
def test_a_name_of_nothing(command: str, shown: Help, capsys, site: Path) -> None:
    provision(site)
    assert ends(f"{command} nowhere", shown, capsys) == ExitCode.USAGE


@pytest.mark.parametrize("command", ["console", "down", "down --json", "quarantine edge-01 --why lost"])
def test_a_command_that_needs_a_terminal(command: str, shown: Help, capsys, site: Path) -> None:
    assert ends(command, shown, capsys) == ExitCode.USAGE
    assert (site / "site.yaml").exists()


def test_down_that_was_not_meant(shown: Help, capsys, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert ends("down", shown, capsys) == ExitCode.CANCELLED


def test_a_site_that_is_there_already(shown: Help, capsys, site: Path) -> None:
    assert ends("init .", shown, capsys) == ExitCode.FAILED
    assert (site / "site.yaml").read_text() == SITE
