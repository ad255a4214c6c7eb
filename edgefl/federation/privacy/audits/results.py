"""What audits found, as typed values that travel as JSON: from the program to the operator, into the report, into a file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["membership", "inversion", "baseline"]
KINDS: tuple[Kind, ...] = ("membership", "inversion", "baseline")


class Result(BaseModel):
    """Frozen; a number that is not finite travels as a string."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


class Interval(Result):
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float


class MembershipAttack(Result):
    """One attack at one level. epsilon_low: 95 % lower bound of epsilon; false, true: its ROC curve."""

    name: Literal["LiRA", "loss"]
    auc: Interval
    tpr_at_1: float
    epsilon_low: float
    false: list[float]
    true: list[float]


class Level(Result):
    """What was found at one epsilon. epsilon: claimed for the whole run, None without noise. is_site: the site's own terms.

    refused: why a device would not train so; nothing else is known then. accuracy_in, accuracy_out: mean share of right
    answers on records that a model saw and did not see, None where the task does not classify.
    """

    epsilon: float | None
    is_site: bool
    sigma: float = 0.0
    refused: str = ""
    accuracy_in: float | None = None
    accuracy_out: float | None = None
    attacks: list[MembershipAttack] = Field(default_factory=list)
    seconds: float = 0.0

    @property
    def epsilon_low(self) -> float:
        """The larger of the attacks' lower bounds, each at half the error, so together at 95 %."""
        return max((attack.epsilon_low for attack in self.attacks), default=0.0)

    @property
    def auc(self) -> float:
        """The better attack's."""
        return max((attack.auc.value for attack in self.attacks), default=0.5)

    @property
    def is_broken(self) -> bool:
        """More leaks than the claim allows."""
        return self.epsilon is not None and self.epsilon_low > self.epsilon


class Membership(Result):
    """A membership audit. records: in the pool, of which each model saw half. models: trained at each level."""

    kind: Literal["membership"] = "membership"
    levels: list[Level]
    models: int
    records: int
    sampling_rate: float
    steps: int
    rounds: int
    delta: float
    max_grad_norm: float | None

    @property
    def passed(self) -> bool:
        """No level leaks more than it claims."""
        return not any(level.is_broken for level in self.levels)

    @property
    def figures(self) -> dict[str, float]:
        """What the journal keeps."""
        found: dict[str, float] = {}
        for level in self.levels:
            name = "inf" if level.epsilon is None else f"{level.epsilon:g}"
            if not level.refused:
                found |= {f"auc@{name}": level.auc, f"epsilon_low@{name}": level.epsilon_low}
        return found


class Reconstruction(Result):
    """What one attack made of one observation. psnr: of the best-recovered record, in dB. mean_psnr: over the observations.

    picture: a PNG as base64, empty where records are no pictures.
    """

    attack: Literal["naive", "adaptive"]
    psnr: float
    mean_psnr: float
    method: str = ""
    pictures: list[str] = Field(default_factory=list)


class Scene(Result):
    """What the attacker saw. is_site: the site's own terms. is_private: with the noise of differential privacy."""

    name: str
    is_site: bool
    is_private: bool
    clipped: bool
    sigma: float
    devices: int
    reconstructions: list[Reconstruction]

    @property
    def psnr(self) -> float:
        """The best that any attack reached, in dB."""
        return max(found.psnr for found in self.reconstructions)


class Inversion(Result):
    """A gradient inversion audit. records: attacked, one after the other. guess_psnr: of the mean record, which needs no update:
    what an attack must beat. recognisable: from so many dB on a record counts as recovered.
    """

    kind: Literal["inversion"] = "inversion"
    scenes: list[Scene]
    records: int
    guess_psnr: float
    recognisable: float
    originals: list[str] = Field(default_factory=list)

    @property
    def passed(self) -> bool:
        """No record was recovered from what differential privacy was to protect."""
        return not any(scene.is_private and scene.psnr >= self.recognisable for scene in self.scenes)

    @property
    def figures(self) -> dict[str, float]:
        """What the journal keeps."""
        return {f"psnr@{scene.name}": scene.psnr for scene in self.scenes}


class Curve(Result):
    """One way of training. metrics: after each round, by name. is_site: as the site trains."""

    name: str
    is_site: bool
    where: Literal["federated", "centralised", "fleet"]
    epsilon: float | None
    metrics: list[dict[str, float]]
    seconds: float = 0.0


class Baseline(Result):
    """The federated result beside the same training on pooled data."""

    kind: Literal["baseline"] = "baseline"
    curves: list[Curve]
    devices: int
    records: int
    steps: int
    rounds: int

    passed: bool = True

    @property
    def figures(self) -> dict[str, float]:
        """What the journal keeps: each curve's last accuracy, or loss where there is none."""
        last = {curve.name: curve.metrics[-1] for curve in self.curves if curve.metrics}
        return {name: metrics.get("accuracy", metrics.get("loss", 0.0)) for name, metrics in last.items()}


class Audit(Result):
    """A whole report: what was audited, when, and what was found. task_sha256, data_sha256: of the task's source, and of the
    records.
    """

    edgefl: str
    at: str
    site: str
    site_hash: str
    task: str
    task_sha256: str
    parameters: dict[str, bool | int | float | str]
    data: list[str]
    data_sha256: str
    seconds: float
    seed: int
    result: Membership | Inversion | Baseline = Field(discriminator="kind")
