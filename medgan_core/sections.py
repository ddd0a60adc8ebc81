"""What every section of a study is made of; how DICOM is read, and how the sites' weights become one."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medgan_core.errors import ConfigError


class Section(BaseModel):
    """Frozen, strict, and without keys that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=False)


SMALLEST_DEPTH, LARGEST_DEPTH = 8, 64
"""Slices of a volume's image."""


class ReadingConfig(Section):
    """How slices and volumes become images; a part of [data]. Of NIfTI alone the last three count.

    `window`: that of CT, in HU, or "file" for the file's own; other kinds have their own. `frames`: which
    are taken of a file with several. `spacing`: mm of a pixel to which slices are resampled, then cropped or
    padded to `image_size`; 0 squashes the whole slice. `slice_spacing`: mm between slices, resampled along
    the normal; 0 leaves them. `stack`: how many neighbours are the channels of an image. A patient has at
    most `slices_per_patient` images, spread over all of that patient's; 0 is no limit. `depth`: how many
    slices of a volume, evenly over it, are the channels of one image; 0 takes slices one by one. A volume
    with more slices than that gives up to `patches` such images, which overlap by half or more.
    """

    window: Literal[
        "lung",
        "mediastinum",
        "soft_tissue",
        "abdomen",
        "liver",
        "bone",
        "brain",
        "subdural",
        "stroke",
        "file",
    ] = "lung"
    frames: Literal["refuse", "first", "middle", "all"] = "refuse"
    spacing: Annotated[float, Field(ge=0, le=100)] = 0.0
    slice_spacing: Annotated[float, Field(ge=0, le=100)] = 0.0
    stack: Literal[1, 3] = 1
    slices_per_patient: Annotated[int, Field(ge=0, le=10_000)] = 16
    depth: Annotated[int, Field(ge=0, le=LARGEST_DEPTH)] = 0
    patches: Annotated[int, Field(ge=1, le=64)] = 1


class AggregationConfig(Section):
    """How the weights that the sites send in a training round become the next ones.

    `rule`: the "mean" by public weights (FedAvg), or one that a few wild sites cannot carry away, where every
    site counts the same: the coordinates' "median" or "trimmed_mean", or "krum", which takes one site's
    update whole. `trim` is the share of sites, rounded down, that may be wild: as many are cut off at both
    ends by the trimmed mean, and believed by nobody in Krum.

    With `momentum` above 0 the coordinator follows a running sum of the rounds' steps, with
    `server_learning_rate` (FedAvgM). An update further than `norm_bound` from the weights that were sent,
    over all its tensors together, is refused; 0 is no bound.
    """

    rule: Literal["mean", "median", "trimmed_mean", "krum"] = "mean"
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    server_learning_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    norm_bound: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @property
    def robust(self) -> bool:
        """Whether the rule looks at single updates."""
        return self.rule != "mean"

    @property
    def moving(self) -> bool:
        """Whether the next weights are others than what the rule gives."""
        return self.momentum > 0 or self.server_learning_rate != 1

    def wild(self, sites: int) -> int:
        """How many of the sites may be wild: `trim` of them, rounded down."""
        return math.floor(self.trim * sites + 1e-9)  # 0.29 · 100 is a little less than 29

    def check(self, sites: int, quorum: int, weighted: bool) -> None:
        """Refuse a rule that this many sites are too few for. Raises ConfigError.

        `quorum` sites must answer at least; `weighted`: whether the study gives them weights of their own.
        """
        if not self.robust:
            return
        if weighted:
            raise ConfigError(
                "aggregation.rule", self.rule, "mean with sites.weights: others count no weight"
            )
        wild = self.wild(sites)
        if self.rule == "median":
            return
        if not wild:
            least = f"at least {1 / sites:.3g}, which is one of {sites} sites"
            raise ConfigError("aggregation.trim", self.trim, f"{least}, for aggregation.rule = {self.rule}")
        # Blanchard et al. 2017: fewer, and wild sites could outvote the others around one of them.
        needed = 2 * wild + (3 if self.rule == "krum" else 1)
        if quorum < needed:
            raise ConfigError(
                "aggregation.trim",
                self.trim,
                f"a share that leaves {self.rule} enough sites: {wild} wild ones of {sites} need "
                f"sites.quorum of {needed}, which is {quorum}",
            )

    def check_apart(self, place: str) -> None:
        """Refuse what needs single updates where a sum hides them: `place` says why. Raises ConfigError."""
        if self.robust:
            raise ConfigError("aggregation.rule", self.rule, f"mean with {place}, which hides single updates")
        if self.norm_bound:
            raise ConfigError(
                "aggregation.norm_bound", self.norm_bound, f"0 with {place}, which hides single updates"
            )

    def check_still(self, place: str) -> None:
        """Refuse momentum where no weights are averaged: `place` says why. Raises ConfigError."""
        for name, value, neutral in (
            ("momentum", self.momentum, 0.0),
            ("server_learning_rate", self.server_learning_rate, 1.0),
        ):
            if value != neutral:
                raise ConfigError(
                    f"aggregation.{name}", value, f"{neutral:g} with {place}, which averages no weights"
                )


class ReleaseConfig(Section):
    """What the card of a release says beside the facts of the run.

    The release is to be used for `valid_days` days after it was made, 0 for no end. `contact` is whom those
    who hold it may ask or warn. `licence` is an identifier as model hubs know them, such as "cc-by-4.0".
    """

    valid_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    contact: Annotated[str, Field(max_length=200)] = ""
    licence: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")] = "unknown"
