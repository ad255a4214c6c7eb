"""What travels between the coordinator and a device: typed values to and from Flower's records.

The model goes as one array of bytes (safetensors): Flower moves each array as objects of its own, with a request for each, so a
model of many small arrays would cost more in requests than in bytes. Everything else is one small JSON document, checked
on arrival: whoever sends it may be hostile.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from safetensors.numpy import load, save

Arrays = Mapping[str, NDArray[Any]]
Seconds = Annotated[float, Field(ge=0, lt=1e7, allow_inf_nan=False)]
Claim = Annotated[int, Field(ge=-(10**15), le=10**15)]
"""A number of records as a device claims it; whether it can be true is checked later, and recorded."""
Hex32 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""32 bytes."""
Hex64 = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
"""64 bytes."""
MOST_CERTIFICATE = 2048
"""Bytes of a device's certificate (DER), at most; edgefl's own have about 700."""
Parameters = dict[str, bool | int | float | str]

MODEL, ABOUT = "model", "about"
DELTA, MASKED = "delta", "masked"
MAX_ABOUT_BYTES = 64 * 1024
"""Most JSON that a reply may carry; metrics are few."""


class Undecodable(Exception):
    """A message that cannot be read as what it should be; the text says why."""


class Said(BaseModel):
    """The JSON part of a message."""

    # A device whose training diverged says NaN: it must arrive as such, to be rejected for what it is.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")
    carries_model: ClassVar[bool] = False


class Model(BaseModel):
    """Which global model a request is about. version: its hash; none where it comes whole and nobody keeps it. base: the
    version that it is built on, by the encoded step DELTA; none where it comes whole, its own where it is held already.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = ""
    base: str = ""


class KeysRequest(Said):
    """Make new keys for one masked round."""

    kind: Literal["keys_request"] = "keys_request"
    run: str
    round: int


class Keys(Said):
    """A device's public keys for one round, in hex: for what it seals to its peers, and for its masks.

    certificate: its signer's, in DER. signature: of the keys, for this round (secure/signing.py).
    """

    kind: Literal["keys"] = "keys"
    seal: Hex32
    mask: Hex32
    certificate: Annotated[str, Field(pattern="^([0-9a-f]{2})+$", max_length=2 * MOST_CERTIFICATE)]
    signature: Hex64


class SharesRequest(Said):
    """Share your round's secrets with these devices of one sum, whose public keys come beside it (secure/device.py)."""

    kind: Literal["shares_request"] = "shares_request"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    members: list[str]


class Shares(Said):
    """A device's shares, sealed for each member, beside this. seed_mark: SHA-256 of the seed of its own mask."""

    kind: Literal["shares"] = "shares"
    carries_model: ClassVar[bool] = True
    seed_mark: Hex32


class UnmaskRequest(Said):
    """These devices' updates are in the sum: give what removes their own masks, and the others' pairwise ones."""

    kind: Literal["unmask_request"] = "unmask_request"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    survivors: list[str]


class Unmasked(Said):
    """One share for each member, beside this: of a survivor's seed, of a dropped device's key."""

    kind: Literal["unmasked"] = "unmasked"
    carries_model: ClassVar[bool] = True


class ContextRequest(Said):
    """Make the key of one homomorphic round, sealed for these devices, whose public keys come beside it (secure/keeper.py)."""

    kind: Literal["context_request"] = "context_request"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    members: list[str]


class Context(Said):
    """The round's key, sealed for each member, beside this."""

    kind: Literal["context"] = "context"
    carries_model: ClassVar[bool] = True


class HoldRequest(Said):
    """Keep the round's key, which the keeper sealed for you."""

    kind: Literal["hold_request"] = "hold_request"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    members: list[str]
    keeper: str


class Holding(Said):
    """The device can read the round's ciphertexts, and will encrypt its own update."""

    kind: Literal["holding"] = "holding"


class OpenRequest(Said):
    """Decrypt the sum of these devices' updates, which comes beside it."""

    kind: Literal["open_request"] = "open_request"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    survivors: list[str]
    size: Annotated[int, Field(ge=1, le=10**7)]


class Opened(Said):
    """The sum, as numbers, beside this."""

    kind: Literal["opened"] = "opened"
    carries_model: ClassVar[bool] = True


class TrainRequest(Said):
    """Train this global model for one round. rounds: how many the run has in all.

    resumes: the run that it goes on from, the first where several did; empty for a run of its own.
    sums: the devices of each sum of a masked round; none where updates are sent as they are. turn: where devices train at their
    own pace, how many times this one was asked.
    """

    kind: Literal["train"] = "train"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    rounds: int
    seed: int
    resumes: str = ""
    parameters: Parameters = Field(default_factory=dict)
    model: Model = Model()
    sums: list[list[str]] = Field(default_factory=list)
    turn: int = 0

    @property
    def training(self) -> str:
        """What the device knows the run by, in its ledger too: runs that go on from one another are one training."""
        return self.resumes or self.run


class EvaluateRequest(Said):
    """Measure this global model on the records that the device holds out."""

    kind: Literal["evaluate"] = "evaluate"
    carries_model: ClassVar[bool] = True
    run: str
    round: int
    parameters: Parameters = Field(default_factory=dict)
    model: Model = Model()


class Privacy(Said):
    """A copy of what the device's ledger says after a round."""

    spent: FiniteFloat
    limit: FiniteFloat
    delta: FiniteFloat
    sigma: FiniteFloat
    sampling_rate: FiniteFloat
    run_spent: FiniteFloat
    rounds_left: int | None = None
    cost: FiniteFloat = 0.0


class Trained(Said):
    """A device's update: its model, or (`delta`) what it changed, encoded by `compression.codec` as the one array DELTA, or
    (`masked`) packed words that mean nothing alone, as the one array MASKED, or (`encrypted`) ciphertexts (secure/ckks.py).

    start_s: from the task's launch to its training; train_s: its training; cpu_s: the whole process.
    """

    kind: Literal["trained"] = "trained"
    carries_model: ClassVar[bool] = True
    encoding: Literal["model", "delta", "masked", "encrypted"] = "model"
    samples: Claim
    metrics: dict[str, float]
    privacy: Privacy | None = None
    start_s: Seconds = 0.0
    train_s: Seconds = 0.0
    cpu_s: Seconds = 0.0


class Evaluated(Said):
    """A device's measurement of the global model."""

    kind: Literal["evaluated"] = "evaluated"
    samples: Claim
    metrics: dict[str, float]
    start_s: Seconds = 0.0
    evaluate_s: Seconds = 0.0
    cpu_s: Seconds = 0.0


class Refused(Said):
    """The device does not train: its own budget does not cover the round, or its terms would not hold."""

    kind: Literal["refused"] = "refused"
    reason: str
    spent: FiniteFloat = 0.0
    limit: FiniteFloat = 0.0
    cost: FiniteFloat = 0.0


class Stale(Said):
    """The device does not hold the model that the request builds on: it needs the whole one."""

    kind: Literal["stale"] = "stale"


class Failed(Said):
    """The device could not do what was asked; the reason is for the operator."""

    kind: Literal["failed"] = "failed"
    reason: str


SecureQuestion = KeysRequest | SharesRequest | UnmaskRequest | ContextRequest | HoldRequest | OpenRequest
"""What a round of secure sums asks besides training."""
Request = TrainRequest | EvaluateRequest | SecureQuestion
Reply = Trained | Evaluated | Keys | Shares | Unmasked | Context | Holding | Opened | Refused | Stale | Failed
_ANY: TypeAdapter[Any] = TypeAdapter(Annotated[Request | Reply, Field(discriminator="kind")])


def pack(said: Said, arrays: Arrays | None = None) -> RecordDict:
    """The records of a message; `arrays` where its kind carries a model."""
    records: dict[str, ArrayRecord | ConfigRecord] = {ABOUT: ConfigRecord({"json": said.model_dump_json()})}
    if arrays is not None:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        records[MODEL] = ArrayRecord({"packed": Array(np.frombuffer(save(contiguous), dtype=np.uint8))})
    return RecordDict(records)


def unpack(content: RecordDict) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The JSON part, as one of the kinds above, and the arrays (empty where the kind has none). Raises Undecodable."""
    try:
        text = content[ABOUT]["json"]
    except (KeyError, TypeError) as error:
        raise Undecodable("it has no readable part that says what it is") from error
    if not isinstance(text, str) or len(text) > MAX_ABOUT_BYTES:
        raise Undecodable(f"what it says of itself is no text of at most {MAX_ABOUT_BYTES} bytes")
    try:
        said = _ANY.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise Undecodable(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    return said, _arrays(content) if said.carries_model else {}


def size(content: RecordDict) -> int:
    """Bytes of a message's payload, as it travels (Flower's own framing, a few hundred bytes, is not counted)."""
    records = (content[name] for name in (MODEL, ABOUT) if name in content)
    return sum(int(record.count_bytes()) for record in records)


def _arrays(content: RecordDict) -> dict[str, NDArray[Any]]:
    try:
        packed = content[MODEL]["packed"]
        _check_header(packed.data)
        return load(packed.numpy().tobytes())
    except Undecodable:
        raise
    except Exception as error:  # NumPy's and safetensors' readers raise whatever a hostile file leads them to
        raise Undecodable(f"its arrays cannot be read: {type(error).__name__}: {error}") from error


def _check_header(data: bytes) -> None:
    """Refuse an array that is not what it should be before memory is taken for what it claims to be."""
    file = BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise Undecodable("its model is no NumPy array of the first format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.uint8 or len(shape) != 1:
        raise Undecodable(f"its model is {dtype} of shape {shape}, not packed bytes")
    if shape[0] != len(data) - file.tell():
        raise Undecodable(f"its model claims {shape[0]} bytes, and {len(data) - file.tell()} came")
