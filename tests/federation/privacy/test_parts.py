"""A private batch in parts is the same step as the whole one, and a device with little memory stays within it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.utils.data import TensorDataset

from edgefl.federation.privacy import dpsgd
from edgefl.federation.privacy.parts import FIRST, Room, headroom, kept_of
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyRefused, PrivacyTerms

RECORDS, FEATURES = 64, 50
MB = 1 << 20


class Fixed(Room):
    """Room for so many records, whatever they take."""

    def __init__(self, records: int) -> None:
        super().__init__(0)
        self.records = records

    def of(self, left: int) -> int:
        return min(left, self.records)


def planned(*, sigma: float, rate: float = 1.0, steps: int = 1) -> PrivacyPlan:
    return PrivacyPlan(PrivacyTerms(8.0, 4.0, 1e-5, 0.7, 10), RECORDS, rate, steps, sigma)


@pytest.fixture
def records() -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(RECORDS, FEATURES, generator=generator)
    return TensorDataset(x, (x[:, 0] > 0).long())


def moved(records: TensorDataset, plan: PrivacyPlan, room: Room) -> tuple[torch.Tensor, list[int], int]:
    """How far training moves a small network from the same start; the sizes of what it was given, and the steps it took."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(FEATURES, 100), nn.Tanh(), nn.Linear(100, 60), nn.Tanh(), nn.Linear(60, 2))
    start, steps, sizes = parameters_to_vector(network.parameters()).detach().clone(), [], []
    optimizer = torch.optim.SGD(network.parameters(), 0.5)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    training = dpsgd.private(network, optimizer, nn.CrossEntropyLoss(), records, plan, room=room)
    for x, y in training.batches:
        sizes.append(len(y))
        training.optimizer.zero_grad()
        training.loss(training.model(x), y).backward()
        training.optimizer.step()
    return parameters_to_vector(network.parameters()).detach() - start, sizes, len(steps)


def test_a_batch_in_parts_moves_the_model_as_the_whole_one_does(records: TensorDataset) -> None:
    plan = planned(sigma=0.0, steps=3)
    whole, sizes, steps = moved(records, plan, Fixed(RECORDS))
    assert (sizes, steps) == ([RECORDS] * 3, 3)
    parted, sizes, steps = moved(records, plan, Fixed(24))
    assert (sizes, steps) == ([24, 24, 16] * 3, 3), "nine parts, and no more steps than were charged"
    assert torch.allclose(whole, parted, rtol=1e-4, atol=1e-7)
    assert float(whole.norm()) > 0.01


def test_noise_is_drawn_once_for_all_parts(records: TensorDataset) -> None:
    sigma = 2.0
    plan = planned(sigma=sigma)
    quiet, noisy = (moved(records, planned(sigma=strength), Fixed(5))[0] for strength in (0.0, sigma))
    noise = noisy - quiet
    expected = 0.5 * sigma * plan.terms.max_grad_norm / plan.expected_batch
    assert float(noise.std()) == pytest.approx(expected, rel=5 / (2 * noise.numel()) ** 0.5)


def test_batches_without_records_are_steps_as_before(records: TensorDataset) -> None:
    _, sizes, steps = moved(records, planned(sigma=1.3, rate=1e-9, steps=4), Fixed(5))
    assert (sizes, steps) == ([0] * 4, 4)


def test_a_task_that_leaves_out_a_step_is_refused_where_batches_came_in_parts(records: TensorDataset) -> None:
    def train(room: Room, *, ahead: bool = False, leave_out: int = -1) -> int:
        network, steps = nn.Linear(FEATURES, 2), []
        optimizer = torch.optim.SGD(network.parameters(), 0.5)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        training = dpsgd.private(network, optimizer, nn.CrossEntropyLoss(), records, planned(sigma=0.0, steps=2), room=room)
        batches = list(training.batches) if ahead else training.batches
        for number, (x, y) in enumerate(batches):
            training.optimizer.zero_grad()
            training.loss(training.model(x), y).backward()
            if number != leave_out:
                training.optimizer.step()
        training.end()
        return len(steps)

    assert train(Fixed(40)) == 2
    assert train(Fixed(40), ahead=True) == 2, "who fetches all batches first steps as often"
    assert train(Fixed(RECORDS), leave_out=0) == 1, "whole batches: less was done than was charged"
    for left_out in range(4):
        with pytest.raises(PrivacyRefused, match="no step for 1 of its batches"):
            train(Fixed(40), leave_out=left_out)


@pytest.mark.parametrize(
    ("fixed", "each", "spare", "fit"),
    [(300, 1, 500, 100), (300, 1, 200, 16), (0, 10, 500, 40), (0, 40, 500, 16), (0, 1, 9999, 200)],
)
def test_what_no_record_is_to_blame_for_does_not_keep_parts_small(
    tmp_path: Path, fixed: int, each: int, spare: int, fit: int
) -> None:
    """A process whose first part takes `fixed` MB, and `each` for a record, on a device that has `spare`."""

    def takes(megabytes: int) -> None:
        (tmp_path / "status").write_text(f"VmHWM:\t {megabytes * 1024} kB\nVmRSS:\t 0 kB\n")

    takes(0)
    room = Room(spare * MB, own=tmp_path)
    for _ in range(8):
        part = room.of(200)
        takes(fixed + each * part)
        room.took(part)
    assert room.of(200) == fit


def test_the_first_part_is_what_surely_fits_by_what_the_model_keeps_of_a_record(records: TensorDataset) -> None:
    network = nn.Sequential(nn.Linear(FEATURES, 1000), nn.Tanh(), nn.Dropout(), nn.Linear(1000, 2))
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    state = torch.get_rng_state()
    kept = kept_of(network, records)
    assert [tuple(given.shape) for given in seen] == [(1, FEATURES)]
    assert not seen[0].any(), "no record is seen before it was paid for"
    assert torch.equal(torch.get_rng_state(), state), "training draws what it would have drawn"
    inputs, mask, linear = 4 * FEATURES, 1000, 4 * 1000
    assert inputs + 2 * linear < kept <= inputs + 4 * linear + mask
    assert Room(1 << 40, kept).of(RECORDS) == RECORDS, "with much memory a batch is whole"
    assert 1 <= Room(10 * MB, kept).of(RECORDS) < FIRST
    assert Room(0, kept).of(RECORDS) == 1
    assert kept_of(nn.Linear(FEATURES + 1, 2), records) == 0
    assert Room(0).of(RECORDS) == FIRST


CHILD = """
import sys
import torch
from torch import nn
from torch.utils.data import TensorDataset
from edgefl.federation.privacy import dpsgd
from edgefl.federation.privacy.parts import Room, kept_of
from edgefl.federation.privacy.plan import PrivacyPlan, PrivacyTerms

def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

torch.set_num_threads(1)
records = 512
images = TensorDataset(torch.zeros(records, 1, 28, 28), torch.zeros(records, dtype=torch.int64))
model = nn.Sequential(nn.Conv2d(1, 16, 5), nn.Tanh(), nn.Conv2d(16, 16, 5), nn.Tanh(), nn.Flatten(), nn.Linear(6400, 10))
plan = PrivacyPlan(PrivacyTerms(8.0, 4.0, 1e-5, 1.0, 1), records, 1.0, 2, 1.0)
room = Room(int(sys.argv[1]), kept_of(model, images))
training = dpsgd.private(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), images, plan, room=room)
before = kilobytes("VmRSS")
sizes = []
for x, y in training.batches:
    sizes.append(len(y))
    training.optimizer.zero_grad()
    training.loss(training.model(x), y).backward()
    training.optimizer.step()
print((kilobytes("VmHWM") - before) * 1024, max(sizes), sum(sizes))
"""


def trained_with(spare: int) -> list[int]:
    """What a process took for training that may take so many bytes; its largest part, and all records of both steps."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(spare)], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
def test_training_takes_no_more_memory_than_there_is(tmp_path: Path) -> None:
    much, all_at_once, records = trained_with(1 << 40)
    assert (all_at_once, records) == (512, 1024)
    spare = 150 * MB
    assert much > 2 * spare, "without a limit it takes more: the limit below is one"
    little, part, records = trained_with(spare)
    assert little <= spare
    assert records == 1024
    assert FIRST < part < 512, "it takes what there is room for"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/unit", {}, 900),
        ("0::/unit", {"unit/memory.max": 500, "unit/memory.current": 200}, 300),
        (
            "0::/unit",
            {"unit/memory.max": 500, "unit/memory.current": 400, "unit/memory.stat": "anon 1\ninactive_file 150"},
            250,
        ),
        ("0::/host/unit", {"host/memory.max": 300, "host/memory.current": 260, "host/unit/memory.max": "max"}, 40),
        ("0::/unit", {"unit/memory.max": 500, "unit/memory.current": 600}, 0),
        (
            "3:cpu:/x\n4:memory:/unit\n0::/",
            {"memory/unit/memory.limit_in_bytes": 400, "memory/unit/memory.usage_in_bytes": 150},
            250,
        ),
    ],
    ids=["no limit", "a unit's", "with files to drop", "a host's", "over it", "the older hierarchy"],
)
def test_what_is_free_is_what_host_and_control_groups_leave(
    tmp_path: Path, groups: str, files: dict[str, int | str], expected: int
) -> None:
    (tmp_path / "own").write_text(groups + "\n")
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {900} kB\n")
    for name, value in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value * 1024 if isinstance(value, int) else value.replace('150', str(150 * 1024))}\n")
    assert headroom(tmp_path / "groups", tmp_path / "own", tmp_path / "meminfo") == expected * 1024
