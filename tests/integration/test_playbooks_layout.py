"""The collection's modules, run by real Ansible against this machine, in a directory of the test's own."""

from __future__ import annotations

import getpass
import grp
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgefl.share import share

pytestmark = pytest.mark.slow


@dataclass
class Ansible:
    """Plays one play against localhost and returns each task's result."""

    directory: Path

    def play(self, *tasks: dict[str, Any], flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        playbook = self.directory / "play.yml"
        named = [{"name": f"Task {number}", **task, "register": f"result_{number}"} for number, task in enumerate(tasks)]
        report = {"name": "Report", "ansible.builtin.copy": {
            "content": "{{ [" + ", ".join(f"result_{number}" for number in range(len(tasks))) + "] | to_json }}",
            "dest": str(self.directory / "report.json"), "mode": "0600"}, "check_mode": False}  # fmt: skip
        playbook.write_text(
            yaml.safe_dump([{"name": "Play", "hosts": "localhost", "gather_facts": False, "tasks": [*named, report]}])
        )
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(share("playbooks") / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", *flags]
        extra = ["-e", json.dumps({"ansible_python_interpreter": sys.executable})]
        done = subprocess.run([*command, *extra, str(playbook)], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return list(json.loads((self.directory / "report.json").read_text()))


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    return Ansible(tmp_path)


def layout(place: Path, content: str = "one\n") -> dict[str, Any]:
    mine = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}
    return {
        "edgefl.host.layout": {
            "directories": [{"path": str(place), "mode": "0750", **mine}],
            "files": [{"path": str(place / "file"), "content": content, "mode": "0640", **mine}],
            "secrets": [{"path": str(place / "word.secret"), "mode": "0600", **mine}],
            "links": [{"path": str(place / "link"), "target": "file"}],
            "absent": [str(place / "gone")],
        }
    }


def test_a_layout_is_brought_about_once_and_drift_is_put_right(ansible: Ansible, tmp_path: Path) -> None:
    place = tmp_path / "host"
    first, second = ansible.play(layout(place), layout(place))
    secret = (place / "word.secret").read_text()

    assert (first["changed"], second["changed"]) == (True, False)
    assert (place / "file").read_text() == "one\n"
    assert (place / "link").readlink() == Path("file")
    assert len(bytes.fromhex(secret)) == 32

    (place / "file").chmod(0o666)
    (place / "gone").touch()
    (repaired,) = ansible.play(layout(place))

    assert sorted(repaired["touched"]) == [str(place / "file"), str(place / "gone")]
    assert (place / "word.secret").read_text() == secret


def test_check_mode_says_the_same_and_changes_nothing(ansible: Ansible, tmp_path: Path) -> None:
    place = tmp_path / "host"
    ansible.play(layout(place))
    (would,) = ansible.play(layout(place, "two\n"), flags=("--check", "--diff"))
    (did,) = ansible.play(layout(place, "two\n"), flags=("--diff",))

    assert would["touched"] == did["touched"] == [str(place / "file")]
    assert would["diff"] == did["diff"]
    assert (would["diff"][0]["before"], would["diff"][0]["after"]) == ("one\n", "two\n")


def test_facts_never_look_into_secrets(ansible: Ansible, tmp_path: Path) -> None:
    place = tmp_path / "host"
    _, read = ansible.play(layout(place), {"edgefl.host.facts": {"roots": [str(place)]}})
    known = read["ansible_facts"]["edgefl"]["paths"]

    assert "sha256" in known[str(place / "file")]
    assert "sha256" not in known[str(place / "word.secret")]
    assert (place / "word.secret").read_text().strip() not in json.dumps(read)


def test_an_unchanged_host_is_not_asked_again_after_its_facts_were_read(ansible: Ansible, tmp_path: Path) -> None:
    place = tmp_path / "host"
    ansible.play(layout(place))
    facts = {"edgefl.host.facts": {"roots": [str(place)]}}
    _, known, changed, back = ansible.play(facts, layout(place), layout(place, "two\n"), layout(place))

    assert (known["changed"], changed["changed"], back["changed"]) == (False, True, True)
    assert changed["touched"] == back["touched"] == [str(place / "file")]
