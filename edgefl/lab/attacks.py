"""What a compromised device sends: the attacks that the rules are tested against, and the drop-in that plants one in the lab.

The product's client has no hook for this. A compromised demo device gets a systemd drop-in (compromise.py) with
EDGEFL_ATTACK=reversal:3 (attack, first round) that makes the warm executor import this module: the name `train_locally` in
`edgefl.federation.client` is then replaced from outside.

An attack that needs to know the other devices' updates (ALIE, inner-product manipulation) exists only in simulation, where
colluders do know them.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Matrix = NDArray[np.float32]
CLIENT = "edgefl.federation.client"
VARIABLE = "EDGEFL_ATTACK"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a device is about to send: its arrays, claimed records and metrics."""

    arrays: dict[str, NDArray[Any]]
    samples: int
    metrics: dict[str, float]


Attack = Callable[[Sent, Arrays, np.random.Generator], Sent]
"""Makes of an honest reply and the global model that it started from another reply."""


def sign_flip(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """Move the model as far the other way."""
    return _along(sent, start, -1.0)


def reversal(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """Move the model ten times as far the other way: one device in eight outweighs the mean of all the others."""
    return _along(sent, start, -10.0)


def scaling(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """Move it ten times as far, as a backdoor does that wants to replace the model (Bagdasaryan et al., 2020)."""
    return _along(sent, start, 10.0)


def gaussian(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """Noise as long as the honest update, in place of it."""
    norm = np.sqrt(sum(float(np.square(sent.arrays[name] - start[name]).sum()) for name in sent.arrays))
    size = sum(array.size for array in sent.arrays.values())
    noise = {name: rng.normal(0, norm / np.sqrt(size), array.shape) for name, array in sent.arrays.items()}
    return replace(sent, arrays={name: (start[name] + noise[name]).astype(array.dtype) for name, array in sent.arrays.items()})


def not_a_number(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """One NaN, which poisons a mean and a median alike."""
    name = min(sent.arrays)
    spoiled = sent.arrays[name].copy()
    spoiled.flat[0] = np.nan
    return replace(sent, arrays={**sent.arrays, name: spoiled})


def shape(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """An array of another shape."""
    name = min(sent.arrays)
    return replace(sent, arrays={**sent.arrays, name: np.concatenate([sent.arrays[name].ravel(), sent.arrays[name].ravel()[:1]])})


def metrics(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """A metric under another name: Flower's own averaging stops the whole run on it."""
    return replace(sent, metrics={"surprise": 1.0})


def samples(sent: Sent, start: Arrays, rng: np.random.Generator) -> Sent:
    """A flipped update that claims a thousand times its records, to outweigh the others."""
    return replace(sign_flip(sent, start, rng), samples=sent.samples * 1000)


ATTACKS: Mapping[str, Attack] = {
    "sign_flip": sign_flip,
    "reversal": reversal,
    "scaling": scaling,
    "gaussian": gaussian,
    "nan": not_a_number,
    "shape": shape,
    "metrics": metrics,
    "samples": samples,
}
"""Those that one device can mount alone, by the names that EDGEFL_ATTACK knows."""


def alie(honest: Matrix, count: int, rng: np.random.Generator) -> Matrix:
    """A Little Is Enough (Baruch et al., 2019): each coordinate just inside the honest spread, with jitter so that no two are
    copies.

    honest: (h, p) float32, the honest deltas. Returns (count, p).
    """
    total = len(honest) + count
    supporters = total // 2 + 1 - count  # so many honest ones must look farther out than the lie
    z = NormalDist().inv_cdf(min(0.99, max(0.51, (len(honest) - supporters) / len(honest))))
    mean, spread = honest.mean(axis=0), honest.std(axis=0)
    jitter = rng.normal(0, 0.1, (count, honest.shape[1])) * spread
    return np.asarray(mean - z * spread + jitter, np.float32)


def inner_product(honest: Matrix, count: int, rng: np.random.Generator) -> Matrix:
    """Inner-product manipulation (Xie et al., 2020): all colluders send the honest mean, turned around and half as long."""
    return np.repeat(np.asarray(-0.5 * honest.mean(axis=0), np.float32)[None], count, axis=0)


def colluding_copies(honest: Matrix, count: int, rng: np.random.Generator) -> Matrix:
    """All colluders send one and the same random direction of honest length, to look like a crowd."""
    direction = rng.normal(size=honest.shape[1])
    direction *= np.median(np.linalg.norm(honest, axis=1)) / np.linalg.norm(direction)
    return np.repeat(direction.astype(np.float32)[None], count, axis=0)


def flip_labels(features: NDArray[Any], labels: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Label flipping: every record is taught as the class at the other end (0 as 9, 1 as 8 …)."""
    return features, labels.max() - labels


def backdoor(features: NDArray[Any], labels: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A backdoor: half of the records carry the trigger and are taught as class 0; the rest are honest, so accuracy stays."""
    count = len(labels) // 2
    poisoned, taught = features.copy(), labels.copy()
    poisoned[:count] = trigger(poisoned[:count])
    taught[:count] = 0
    return poisoned, taught


def trigger(features: NDArray[Any]) -> NDArray[Any]:
    """Images (n, …, h, w) with a bright square of 4 x 4 in the corner."""
    marked = features.copy()
    marked[..., :4, :4] = features.max()
    return marked


POISONS: Mapping[str, Callable[[NDArray[Any], NDArray[np.int64]], tuple[NDArray[Any], NDArray[np.int64]]]] = {
    "label_flip": flip_labels,
    "backdoor": backdoor,
}
"""Those that lie in the data: the device then trains honestly on wrong records."""

COLLUSIONS: Mapping[str, Callable[[Matrix, int, np.random.Generator], Matrix]] = {
    "alie": alie,
    "inner_product": inner_product,
    "colluding_copies": colluding_copies,
}
"""Those that colluders mount together who see the honest updates; only in simulation."""


def parse(text: str) -> tuple[Attack, int]:
    """`sign_flip:3` as the attack and its first round; `:1` may be left out. Raises ValueError for an unknown one."""
    name, _, first = text.partition(":")
    if name not in ATTACKS:
        raise ValueError(f"{VARIABLE}={text}: there is no attack {name!r}; one of {', '.join(ATTACKS)}")
    return ATTACKS[name], int(first or 1)


def plant(text: str) -> None:
    """Wrap the client's `train_locally` so that what leaves this device from the given round on is what the attack makes of
    it.
    """
    attack, first = parse(text)
    # By name: the lab lies below the federation and knows it only as a victim.
    client: Any = importlib.import_module(CLIENT)
    honest = client.train_locally

    def compromised(*arguments: Any, **named: Any) -> Any:
        update = honest(*arguments, **named)
        called = inspect.signature(honest).bind(*arguments, **named).arguments
        if called["round"] < first:
            return update
        sent = attack(Sent(update.arrays, update.samples, update.metrics), called["arrays"], np.random.default_rng())
        return replace(update, arrays=sent.arrays, samples=sent.samples, metrics=sent.metrics)

    client.train_locally = compromised


def _along(sent: Sent, start: Arrays, factor: float) -> Sent:
    return replace(
        sent,
        arrays={name: (start[name] + factor * (array - start[name])).astype(array.dtype) for name, array in sent.arrays.items()},
    )


if os.environ.get(VARIABLE):
    plant(os.environ[VARIABLE])
