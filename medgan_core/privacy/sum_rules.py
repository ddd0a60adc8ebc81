"""How many sites a secure sum needs, may lose and must be able to trust: a function of public numbers alone.

Bonawitz et al. 2017, https://eprint.iacr.org/2017/281, section 6: an honest-but-curious server needs a
threshold T above the number of colluding sites; an active one 2T > K + collude beside the consistency check.
"""

from dataclasses import dataclass
from typing import Self

from medgan_core.errors import ConfigError

FEWEST_SITES = 3
"""With two sites each would read the other's part off the sum."""


@dataclass(frozen=True)
class SumRules:
    """K `sites`, of which at most `drop` may fail and `collude` may work together with the server.

    `threshold` T: so many sites together can bring back a secret of another one.
    """

    sites: int
    drop: int
    collude: int
    threshold: int

    def __post_init__(self) -> None:
        if self.sites < FEWEST_SITES:
            raise ConfigError("privacy.secure_sum", True, f"at least {FEWEST_SITES} sites, not {self.sites}")
        if self.collude < 1:
            raise ConfigError("privacy.collude", self.collude, "1 or more: each site knows its own noise")
        if self.drop < 0 or self.shares < 1:
            raise ConfigError(
                "privacy.drop",
                self.drop,
                f"0 or more, with drop + collude ({self.drop} + {self.collude}) below the {self.sites} sites",
            )
        if not self.collude < self.threshold <= self.survivors:
            raise ConfigError(
                "privacy.drop",
                self.drop,
                f"fewer drop-outs, fewer colluding sites or more sites: {self.threshold} of {self.sites} "
                f"must stay, with collude = {self.collude}",
            )
        if not 2 * self.threshold > self.sites + self.collude:
            raise ConfigError("threshold", self.threshold, "2T > K + collude, against an active server")

    @classmethod
    def of(cls, sites: int, collude: int = 1, drop: int | None = None) -> Self:
        """The rules for K sites with the smallest threshold that an active server cannot get around.

        Without `drop` one site in five may fail. Raises ConfigError where the numbers do not go together.
        """
        lost = sites // 5 if drop is None else drop
        return cls(sites, lost, collude, (sites + collude) // 2 + 1)

    @property
    def survivors(self) -> int:
        """How many masked vectors a sum needs."""
        return self.sites - self.drop

    @property
    def shares(self) -> int:
        """How many shares of noise nobody else knows are in every sum."""
        return self.sites - self.drop - self.collude
