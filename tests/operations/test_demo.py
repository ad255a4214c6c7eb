"""The demo around the product's own operations: its site, its data, its attacker, its comparison, and what it writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgefl.monitor.state import FederationState
from edgefl.operations import demo
from edgefl.operations.summary import Stage, Summary
from edgefl.progress import Finished, Progress
from edgefl.site import load
from edgefl.site.model import Site
from tests.console.conftest import story


def devices_have_data(directory: Path) -> None:
    for number in range(1, 9):
        (directory / "data" / f"edge-{number:02}").mkdir(parents=True)


def test_the_shipped_site_has_the_attacker_among_its_devices_and_time_to_see_it(tmp_path: Path) -> None:
    site = load(demo.prepare(tmp_path / "demo"))
    names = [device.name for device in site.devices]
    assert set(demo.COMPROMISED) < set(names)
    assert len(names) == 8
    assert len(demo.COMPROMISED) <= len(names) * site.aggregation.byzantine
    assert site.run.rounds > demo.FIRST_ROUND


def test_a_site_that_the_user_changed_is_the_users_own(tmp_path: Path) -> None:
    demo.prepare(tmp_path)
    (tmp_path / "site.yaml").write_text("name: mine\ndevices: [{name: edge-01}]\n")
    assert load(demo.prepare(tmp_path)).name == "mine"


async def test_data_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    async def printed(*command: str) -> str:
        asked.append(command)
        return ""

    monkeypatch.setattr(demo, "printed", printed)
    [_, first] = [event async for event in demo._data(tmp_path)]
    assert asked == [("edgefl.lab.data", "--task", "images", "--devices", "8", "--out", str(tmp_path / "data"))]
    devices_have_data(tmp_path)
    [_, second] = [event async for event in demo._data(tmp_path)]
    assert len(asked) == 1
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert (first.changed, second.changed) == (True, False)


async def test_it_provisions_then_compromises_then_trains_then_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = load(demo.prepare(tmp_path))
    devices_have_data(tmp_path)
    site.state.mkdir(exist_ok=True)

    def stage(name: str, accuracy: float | None = None) -> object:
        async def said(_: Site) -> AsyncIterator[Progress]:
            yield Finished(name, "", "done", seconds=2.0, detail={"accuracy": accuracy})

        return said

    async def summarise(given: Site, events: list[Progress], *, compromised: list[str], clean_floor: float) -> Summary:
        assert given.name == "demo"
        stages = tuple(Stage(event.stage, 2.0) for event in events if isinstance(event, Finished))
        return Summary(stages, FederationState().apply_all(story(5, 5)), tuple(compromised), clean_floor, "model", "journal")

    monkeypatch.setattr(demo, "up", stage("up"))
    monkeypatch.setattr(demo, "run", stage("run"))
    monkeypatch.setattr(demo, "_compromise", stage("attack"))
    monkeypatch.setattr(demo, "_clean", stage("comparison", 0.9))
    monkeypatch.setattr(demo, "summarise", summarise)
    events = [event async for event in demo.demo(tmp_path)]
    summary = demo.summary_of(events)
    assert [stage.name for stage in summary.stages] == ["data", "up", "attack", "run", "comparison"]
    assert summary.clean_floor == pytest.approx(0.87)
    assert summary.compromised == ("edge-07",)
    assert json.loads((site.state / "result.json").read_text()) == json.loads(json.dumps(summary.result()))


@pytest.mark.slow
def test_the_comparison_asks_for_the_sites_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgefl.federation import simulate

    site = load(demo.prepare(tmp_path))
    understood: list[argparse.Namespace] = []

    def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
        understood.append(parse_args(parser, arguments))
        raise InterruptedError

    parse_args = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(InterruptedError):
        simulate.main(demo._simulated(site))
    [given] = understood
    assert (given.rounds, given.seed, given.rule) == (site.run.rounds, site.run.seed, site.aggregation.rule)
    assert (given.epsilon_per_run, given.epsilon_limit) == (site.privacy.epsilon_per_run, site.privacy.epsilon_limit)
    assert given.compression == json.loads(site.compression.model_dump_json())
    assert given.attack is None
