"""One device's round: deterministic without privacy, paid for and noisy with it, clear about a task that misbehaves."""

from pathlib import Path

import numpy as np
import pytest

from edgefl.errors import EdgeflError
from edgefl.federation.local import TrainingFailed, evaluate_locally, initial_arrays, train_locally
from edgefl.federation.privacy.ledger import Ledger
from edgefl.federation.privacy.plan import BudgetExceeded, PrivacyRefused, PrivacyTerms
from edgefl.federation.task import Task, load_task

TERMS = PrivacyTerms(epsilon_limit=8.0, epsilon_per_run=4.0, delta=1e-5, max_grad_norm=1.0, rounds=4)
SOURCE = (Path(__file__).parent / "tiny_task.py").read_text()


def task_of(directory: Path, *changes: tuple[str, str]) -> Task:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    directory.mkdir(exist_ok=True)
    (directory / "task.py").write_text(source)
    return load_task("./task.py", directory)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 4)).astype(np.float32)
    directory = tmp_path / "data"
    directory.mkdir()
    np.savez(directory / "records.npz", x=x, y=(x[:, 0] + x[:, 1] > 0).astype(np.int64))
    return directory


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def test_without_privacy_a_round_learns_and_is_the_same_for_the_same_seed(tmp_path: Path, data: Path) -> None:
    task = task_of(tmp_path / "a")
    start = initial_arrays(task, {}, 7)
    before, count = evaluate_locally(task, start, {}, data)
    one, same, other = (train_locally(task, start, {}, data, None, None, "run", 1, seed) for seed in (7, 7, 8))
    assert (one.samples, count, one.privacy) == (400, 400, None)
    assert evaluate_locally(task, one.arrays, {}, data)[0]["loss"] < 0.8 * before["loss"]
    for name, array in start.items():
        np.testing.assert_array_equal(one.arrays[name], same.arrays[name])
        assert one.arrays[name].shape == array.shape
        assert one.arrays[name].dtype == np.float32
    assert any((one.arrays[name] != other.arrays[name]).any() for name in start)


@pytest.mark.slow
def test_with_privacy_the_round_is_charged_and_its_noise_owes_nothing_to_the_seed(
    tmp_path: Path, data: Path, ledger: Ledger
) -> None:
    task = task_of(tmp_path / "a")
    start = initial_arrays(task, {}, 7)
    one, again = (train_locally(task, start, {}, data, TERMS, ledger, "run", 1, 7) for _ in range(2))
    assert sorted(one.arrays) == sorted(start), "Opacus' wrapper leaves no trace in the names"
    assert all((one.arrays[name] != again.arrays[name]).any() for name in start)
    assert one.privacy is not None
    assert again.privacy is not None
    assert 0 < one.privacy.spent < again.privacy.spent <= 4.0
    assert [charge.steps for charge in ledger.charges()] == [20, 20]


@pytest.mark.slow
def test_a_round_that_the_budget_does_not_cover_touches_no_record(tmp_path: Path, data: Path, ledger: Ledger) -> None:
    task = task_of(tmp_path / "a", ("def train(model", "def train(*_): raise SystemExit('trained')\ndef unused(model"))
    poor = PrivacyTerms(epsilon_limit=0.1, epsilon_per_run=4.0, delta=1e-5, max_grad_norm=1.0, rounds=4)
    with pytest.raises(BudgetExceeded):
        train_locally(task, initial_arrays(task, {}, 7), {}, data, poor, ledger, "run", 1, 7)
    assert ledger.charges() == []


@pytest.mark.slow
def test_a_crash_in_training_has_paid(tmp_path: Path, data: Path, ledger: Ledger) -> None:
    task = task_of(tmp_path / "a", ("    total = 0.0\n", "    raise RuntimeError('power cut')\n"))
    with pytest.raises(TrainingFailed, match="power cut"):
        train_locally(task, initial_arrays(task, {}, 7), {}, data, TERMS, ledger, "run", 1, 7)
    assert len(ledger.charges()) == 1


MORE = """
    for _ in range(30):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (('    return {"loss": total}', MORE + '    return {"loss": total}'), "more than the 20 steps"),
        (
            ("        optimizer.step()\n", "        optimizer.step()\n        optimizer.step()\n"),
            "Gradients haven't been cleared",
        ),
    ],
)
def test_a_task_cannot_take_more_steps_than_were_charged(
    tmp_path: Path, data: Path, ledger: Ledger, change: tuple[str, str], what: str
) -> None:
    task = task_of(tmp_path / "a", change)
    with pytest.raises(EdgeflError, match=what):
        train_locally(task, initial_arrays(task, {}, 7), {}, data, TERMS, ledger, "run", 1, 7)


@pytest.mark.slow
def test_a_second_pass_over_the_batches_finds_none(tmp_path: Path, data: Path, ledger: Ledger) -> None:
    twice = ("    for x, y in batches:\n", "    for x, y in [*batches, *batches]:\n")
    update = train_locally(
        task := task_of(tmp_path / "a", twice), initial_arrays(task, {}, 7), {}, data, TERMS, ledger, "run", 1, 7
    )
    assert update.samples == 400


@pytest.mark.slow
def test_empty_poisson_batches_are_steps_of_noise_alone(tmp_path: Path, data: Path, ledger: Ledger) -> None:
    task = task_of(tmp_path / "a")
    thrifty = PrivacyTerms(epsilon_limit=8.0, epsilon_per_run=0.5, delta=1e-5, max_grad_norm=1.0, rounds=1)
    sparse = {"batch_size": 1, "local_epochs": 0.1}  # 40 steps, a third of them empty
    update = train_locally(task, initial_arrays(task, {}, 7), sparse, data, thrifty, ledger, "run", 1, 7)
    assert ledger.charges()[0].steps == 40
    assert all(np.isfinite(array).all() for array in update.arrays.values())
    assert np.isfinite(update.metrics["loss"])


@pytest.mark.slow
def test_batch_normalisation_is_refused_with_privacy_before_anything_is_charged(
    tmp_path: Path, data: Path, ledger: Ledger
) -> None:
    task = task_of(tmp_path / "a")
    with pytest.raises(PrivacyRefused, match="BatchNorm"):
        train_locally(task, initial_arrays(task, {"norm": True}, 7), {"norm": True}, data, TERMS, ledger, "run", 1, 7)
    assert ledger.charges() == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (('np.load(directory / "records.npz")', 'np.load(directory / "other.npz")'), "`dataset` failed: FileNotFoundError"),
        (("    total = 0.0\n", "    total = 1 / 0\n"), "`train` failed: ZeroDivisionError"),
        (('return {"loss": total}', 'return {"speed": total}'), "`train` gave ['speed'], but promises ['loss']"),
        (('    return {"loss": float(sum', '    return {"mean": float(sum'), "gave ['mean'], but no `loss`"),
        (("    return nn.Sequential(", "    return nn.Sequentia("), "`model` failed: AttributeError"),
    ],
)
def test_what_a_task_does_wrong_is_said_without_a_traceback(
    tmp_path: Path, data: Path, change: tuple[str, str], what: str
) -> None:
    start = initial_arrays(task_of(tmp_path / "good"), {}, 7)
    task = task_of(tmp_path / "bad", change)

    def a_round() -> None:
        train_locally(task, start, {}, data, None, None, "run", 1, 7)
        evaluate_locally(task, start, {}, data)

    with pytest.raises(EdgeflError) as raised:
        a_round()
    assert what in raised.value.what


def test_a_global_model_of_another_shape_is_refused(tmp_path: Path, data: Path) -> None:
    task = task_of(tmp_path / "a")
    arrays = initial_arrays(task, {}, 7) | {"0.weight": np.zeros((3, 5), np.float32)}
    with pytest.raises(TrainingFailed, match=r"0\.weight is \(3, 5\), not \(3, 4\)"):
        train_locally(task, arrays, {}, data, None, None, "run", 1, 7)
