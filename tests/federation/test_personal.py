"""Personal layers: kept on the device, found again, and in no message."""

from __future__ import annotations

import json
import stat
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefl.federation import client
from edgefl.federation.hostconfig import APP_VARIABLE, HostConfig, Places
from edgefl.federation.local import TrainingFailed, evaluate_locally, initial_arrays, train_locally
from edgefl.federation.messages import EvaluateRequest, TrainRequest, pack
from edgefl.federation.outline import TaskInvalid
from edgefl.federation.personal import PersonalLayers, PersonalLayersLost, split
from edgefl.federation.task import Task, load_task

SOURCE = (Path(__file__).parent / "tiny_task.py").read_text()
HEAD = ("2.*",)
"""The tiny task's last layer."""
NAMES = {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "task.py").write_text(SOURCE)
    return load_task("./task.py", tmp_path / "app")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return records(tmp_path / "data", flipped=False)


def records(directory: Path, *, flipped: bool) -> Path:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4)).astype(np.float32)
    directory.mkdir()
    np.savez(directory / "records.npz", x=x, y=((x[:, 0] > 0) != flipped).astype(np.int64))
    return directory


def kept(layers: PersonalLayers, ref: str = "./task.py") -> dict[str, NDArray[np.float32]]:
    like = {"2.weight": np.zeros((2, 3), np.float32), "2.bias": np.zeros(2, np.float32)}
    return layers.load(ref, like)


@pytest.mark.parametrize(
    ("patterns", "own"),
    [((), set()), (("2.weight",), {"2.weight"}), (("2.*",), {"2.weight", "2.bias"}), (("*.bias",), {"0.bias", "2.bias"})],
)
def test_patterns_name_what_stays(patterns: tuple[str, ...], own: set[str]) -> None:
    assert split(NAMES, patterns, "t") == (own, NAMES - own)


@pytest.mark.parametrize(("patterns", "says"), [(("2.*", "haed.*"), "no layer that `haed"), (("*",), "every layer")])
def test_patterns_that_name_nothing_or_everything_are_refused(patterns: tuple[str, ...], says: str) -> None:
    with pytest.raises(TaskInvalid, match=says):
        split(NAMES, patterns, "t")


def test_a_device_goes_on_with_its_own_layers_and_shares_the_rest(task: Task, data: Path, tmp_path: Path) -> None:
    shared = initial_arrays(task, {}, 1, HEAD)
    assert shared.keys() == {"0.weight", "0.bias"}
    layers = PersonalLayers(tmp_path / "own", HEAD)
    first = train_locally(task, shared, {}, data, None, None, "run", 1, 1, personal=layers)
    assert first.arrays.keys() == shared.keys()
    after_one = kept(layers)
    again = PersonalLayers(tmp_path / "own", HEAD)  # another process, after a restart
    train_locally(task, first.arrays, {}, data, None, None, "run", 2, 1, personal=again)
    assert all((kept(again)[name] != after_one[name]).any() for name in after_one)
    with_own = evaluate_locally(task, first.arrays, {}, data, again)[0]["loss"]
    with_none = evaluate_locally(task, first.arrays, {}, data, PersonalLayers(tmp_path / "other", HEAD))[0]["loss"]
    assert with_own < with_none, "evaluation uses what the device has learnt for itself"


def test_devices_that_contradict_each_other_each_learn_their_own(task: Task, tmp_path: Path) -> None:
    start = initial_arrays(task, {}, 1, HEAD)
    for name, flipped in (("a", False), ("b", True)):
        place, layers = records(tmp_path / name, flipped=flipped), PersonalLayers(tmp_path / f"own-{name}", HEAD)
        trained = train_locally(task, start, {"local_epochs": 20.0}, place, None, None, "run", 1, 1, personal=layers)
        assert evaluate_locally(task, trained.arrays, {}, place, layers)[0]["loss"] < 0.3


def test_the_file_is_the_devices_alone_and_another_model_finds_its_own(tmp_path: Path) -> None:
    layers = PersonalLayers(tmp_path / "own", HEAD)
    small, large = {"h": np.ones(2, np.float32)}, {"h": np.ones(3, np.float32)}
    layers.keep("t", small)
    (path,) = layers.directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(layers.directory.stat().st_mode) == 0o700
    assert (layers.load("t", {"h": np.zeros(3, np.float32)})["h"] == 0).all(), "another shape begins anew"
    assert (layers.load("other", {"h": np.zeros(2, np.float32)})["h"] == 0).all(), "another task begins anew"
    layers.keep("t", large)
    assert (layers.load("t", {"h": np.zeros(2, np.float32)})["h"] == 1).all(), "what was kept before is still there"


def test_layers_that_diverged_are_not_kept_and_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    layers, zeros = PersonalLayers(tmp_path / "own", HEAD), {"h": np.zeros(2, np.float32)}
    layers.keep("t", {"h": np.ones(2, np.float32)})
    layers.keep("t", {"h": np.array([np.nan, 1], np.float32)})
    assert (layers.load("t", zeros)["h"] == 1).all()
    next(layers.directory.iterdir()).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}")
    assert (layers.load("t", zeros)["h"] == 0).all()


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("a file where the directory should be")
    with pytest.raises(PersonalLayersLost, match="cannot be kept"):
        PersonalLayers(tmp_path / "own", HEAD).keep("t", {"h": np.ones(2, np.float32)})


def configured(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, **sections: object) -> Places:
    places = Places(tmp_path / "etc", tmp_path / "var")
    places.config.mkdir()
    places.ledger.parent.mkdir(parents=True)
    monkeypatch.setenv(APP_VARIABLE, str(tmp_path / "app"))
    document = {
        "site": "demo",
        "name": "edge-1",
        "role": "device",
        "coordinator": {"name": "coordinator", "address": "10.77.0.10"},
        "task": {"module": "./task.py", "personal_layers": list(HEAD)},
        "run": {"rounds": 4},
        "privacy": {"mode": "none"},
        "data": str(data),
        **sections,
    }
    places.host.write_text(json.dumps(document))
    HostConfig.load(places.host)
    return places


@pytest.mark.slow
@pytest.mark.parametrize("compression", [{"mode": "none"}, {"mode": "quantised", "bits": 16}])
@pytest.mark.parametrize("privacy", [{"mode": "none"}, {"mode": "dp-sgd", "epsilon_limit": 8, "epsilon_per_run": 8}])
def test_no_byte_of_them_is_in_any_message(  # noqa: PLR0917  # fixtures and two settings
    task: Task,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compression: dict[str, object],
    privacy: dict[str, object],
) -> None:
    places = configured(tmp_path, data, monkeypatch, compression=compression, privacy=privacy)
    arrays = initial_arrays(task, {}, 1, HEAD)
    own: list[dict[str, NDArray[np.float32]]] = []
    travelled = b""
    for round_ in (1, 2, 3):
        requests = (TrainRequest(run="9", round=round_, rounds=4, seed=1), EvaluateRequest(run="9", round=round_))
        for request in requests:
            asked = pack(request, arrays)
            said, sent = client.answer(asked, type(request), places)
            assert said.kind in {"trained", "evaluated"}
            travelled += wire(asked) + wire(pack(said, sent))
        own.append(kept(PersonalLayers(places.personal, HEAD), "task.py"))
    assert arrays["0.weight"].tobytes() in travelled, "the shared layers are, so that the search finds what is there"
    changed = [later[name] - earlier[name] for earlier, later in pairwise(own) for name in earlier]
    for array in [*(array for round_own in own for array in round_own.values()), *changed]:
        for value in array.astype("<f4").reshape(-1):
            assert value.tobytes() not in travelled
    assert b"2.weight" not in travelled
    assert b"2.bias" not in travelled


def wire(content: object) -> bytes:
    """A message's records as Flower sends them."""
    return b"".join(part.deflate() for part in [content, *descendants(content)])  # type: ignore[attr-defined]


def descendants(content: object) -> list[object]:
    children = list((content.children or {}).values())  # type: ignore[attr-defined]
    return [*children, *(below for child in children for below in descendants(child))]


def test_a_coordinator_cannot_give_a_device_its_personal_layers(
    task: Task, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = configured(tmp_path, data, monkeypatch)
    request = TrainRequest(run="9", round=1, rounds=4, seed=1)
    said, _ = client.answer(pack(request, initial_arrays(task, {}, 1)), TrainRequest, places)
    assert said.kind == "failed"
    assert "does not fit task" in said.reason
    assert not places.personal.exists()


def test_a_model_that_lacks_what_is_shared_is_refused(task: Task, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="does not fit"):
        evaluate_locally(task, {}, {}, data, PersonalLayers(tmp_path / "own", HEAD))
