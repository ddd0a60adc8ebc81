"""What a release check found: one frozen value, a field of the release's card."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from medgan_core.release.check.policy import Policy
from medgan_core.release.figures import Figure

Verdict = Literal["pass", "fail", "inconclusive"]
Finding = Literal["pass", "fail", "inconclusive", "not asked", "not assessed"]
Aspect = Literal[
    "congruence", "coverage", "constraint", "completeness", "compliance", "comprehension", "consistency"
]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
_NAMES = {
    "auc": "AUC",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "iou": "IoU",
    "dice": "Dice",
    "mse": "MSE",
    "mae": "MAE",
}
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Row(BaseModel):
    """One check: what was found, its limit, and in one line what to do where it did not pass.

    `aspect` is which of the seven Cs of the scorecard it speaks for.
    """

    model_config = _FROZEN

    name: str
    aspect: Aspect
    figure: str
    limit: str
    verdict: Finding
    todo: str = ""


class AttackRow(BaseModel):
    """One attack on the generator: how well it tells training patients from held-out ones.

    `low` and `high` are the one-sided 95 % bounds of `auc`, corrected for the number of attacks; `deviation`
    holds privacy noise and the choice of patients. `control` is the same among training patients alone, where
    there is nothing to be found. `twin` is the AUC on a generator that was overfitted on purpose, nan where
    that was not tried.
    """

    model_config = _FROZEN

    name: str
    auc: Figure
    low: Figure
    high: Figure
    deviation: Figure
    control: Figure
    control_low: Figure
    control_high: Figure
    twin: Figure


class Subgroup(BaseModel):
    """A class: noisy number of held-out patients, and the share of them that a classifier found right.

    `error` is a standard error by noise and choice of patients. Both are nan where there are too few.
    """

    model_config = _FROZEN

    name: str
    patients: Figure
    right: Figure
    error: Figure


class SampleFigures(BaseModel):
    """What images that were drawn for the check show; differences are shares of the range of grey levels.

    `images` were drawn of each class. `lowest` and `highest` pixel in [-1, 1] where all is well. `constant`:
    the share of images of a single grey level. `difference` [classes]: the median root mean square difference
    of two images of a class. `duplicates`: the share of images with another of their class that is nearer
    than the policy's `duplicate_difference`. `repeats`: whether the same seed gave the same images.
    """

    model_config = _FROZEN

    images: int
    finite: bool
    lowest: Figure
    highest: Figure
    constant: Figure
    difference: tuple[Figure, ...]
    duplicates: Figure
    repeats: bool


class CheckResult(BaseModel):
    """A check: its verdict by `policy`, and all that it rests on.

    `attack_limit` is what the lower bounds were held against, nan where nothing was attacked; `members` and
    `held_out` are noisy numbers of patients. `samples` is None of a network that draws no images by itself.
    `accepted` is "NAME: reason" of a person who lets an inconclusive release out. `checked` is UTC, ISO 8601.
    """

    model_config = _FROZEN

    format: Literal[1] = 1
    verdict: Verdict
    policy: Policy
    rows: tuple[Row, ...]
    attacks: tuple[AttackRow, ...] = ()
    attack_limit: Figure = float("nan")
    members: Figure = float("nan")
    held_out: Figure = float("nan")
    twin: dict[str, Figure] = {}
    samples: SampleFigures | None = None
    subgroups: tuple[Subgroup, ...] = ()
    accepted: str = ""
    checked: str

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON, nan and infinity as words."""
        return self.model_dump(mode="json")

    @property
    def may_leave(self) -> bool:
        """Whether the release may go out: it passed, or a person answers for what could not be told."""
        return self.verdict == "pass" or (self.verdict == "inconclusive" and bool(self.accepted))


def worst(findings: tuple[Finding, ...]) -> Verdict:
    """The verdict of several checks: one that failed outweighs one that is inconclusive."""
    if "fail" in findings:
        return "fail"
    return "inconclusive" if "inconclusive" in findings else "pass"


def told_name(figure: str) -> str:
    """A figure's name for people."""
    return _NAMES.get(figure, figure.replace("_", " "))


def power_of_ten(value: float) -> str:
    """A small number such as δ for people."""
    return f"{value:g}".replace("e-0", "e-")
