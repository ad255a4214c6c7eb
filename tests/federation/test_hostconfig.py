"""host.json, as the roles write it and services read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.federation.hostconfig import HostConfig, HostConfigInvalid, Places

LEAST = {"site": "demo", "name": "edge-1", "role": "device", "coordinator": {"name": "coordinator", "address": "10.77.0.10"}}


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_sections_that_are_left_out_mean_the_sites_defaults(tmp_path: Path) -> None:
    host = HostConfig.load(written(tmp_path / "host.json", json.dumps({**LEAST, "run": None, "later": 1})))
    assert host.run.rounds == 10
    assert host.data == layout.DATA
    assert host.coordinator.port == layout.FLEET_PORT
    assert host.fab_sha256 == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        (json.dumps({**LEAST, "role": "king"}), "role: Input should be"),
        (json.dumps({**LEAST, "privacy": {"epsilon_limit": -1}}), "privacy.epsilon_limit"),
    ],
)
def test_a_wrong_host_json_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(HostConfigInvalid, match=says):
        HostConfig.load(written(tmp_path / "host.json", text))


def test_a_missing_host_json_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostConfigInvalid, match="cannot be read"):
        HostConfig.load(tmp_path / "host.json")


def test_places_are_those_of_the_layout_and_travel_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (Places().journal, Places().ledger, Places().models) == (layout.JOURNAL, layout.LEDGER, layout.MODELS)
    moved = Places(tmp_path / "etc", tmp_path / "var")
    for name, value in moved.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Places.from_environment() == moved
    assert moved.journal == tmp_path / "var" / "journal" / "journal.db"
