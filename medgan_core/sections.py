"""What every section of a study is made of, and the section about how the sites' weights become one."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medgan_core.errors import ConfigError


class Section(BaseModel):
    """Frozen, strict, and without keys that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=False)


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
