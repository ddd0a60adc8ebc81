"""Everything that MedGAN raises on purpose, in one tree.

    MedGANError                     exit code 1
    ├── InputError                  exit code 2: a person can mend it
    │   ├── ConfigError             a value of a study: name, value, what is expected
    │   └── DataError               a file or a row of a data set
    ├── RefusedError                exit code 3: privacy or policy says no
    │   ├── BudgetError             a charge would pass the site's cap
    │   ├── PolicyError             a rule of a site's own policy; it says what a coordinator may know of it
    │   ├── NoiseError              a round's noise is not what its plan promises: the site has stopped
    │   └── ReceiptError            a round was asked for again with another content
    ├── IntegrityError              exit code 1: something was tampered with or damaged
    │   ├── LedgerError             broken chain, or older than a copy held outside
    │   └── ReleaseError            a release that fails its own manifest
    ├── SourceError                 exit code 1: a hospital's archive of images does not answer, or says no
    └── RoundError                  exit code 1: the federation cannot go on
        ├── UpdateError             one site's update is not acceptable
        ├── TrainerError            a site's trainer is not there, or does not answer in time
        └── QuorumError             too few acceptable updates

Messages say what happened, with which value, what is expected, and what to do next.
A command line prints the message alone; anything outside of this tree is a bug and shows its traceback.
"""

from typing import Self


class MedGANError(Exception):
    """Anything that MedGAN raises on purpose."""

    exit_code = 1


class InputError(MedGANError):
    """Input that a person can mend."""

    exit_code = 2


class ConfigError(InputError):
    """A value that a study may not have."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name} = {value!r}: expected {expected}")
        self.name, self.value, self.expected = name, value, expected

    def __reduce__(self) -> tuple[type[Self], tuple[str, object, str]]:
        """Other processes get the same error: Flower's simulation sends it between its workers."""
        return type(self), (self.name, self.value, self.expected)


class DataError(InputError):
    """A data set, file or row that cannot be read."""


class RefusedError(MedGANError):
    """Privacy or a policy says no."""

    exit_code = 3


class BudgetError(RefusedError):
    """A charge that would pass the cap of a site."""


class PolicyError(RefusedError):
    """A rule of a site's own policy. `told` is what a coordinator may know: public facts, else no reason."""

    def __init__(self, message: str, told: str = "not approved") -> None:
        super().__init__(message)
        self.told = told


class NoiseError(RefusedError):
    """Noise that is not what a plan promises. Nothing of its round leaves; a coordinator learns no reason."""


class ReceiptError(RefusedError):
    """A round that was asked for again with another content."""


class IntegrityError(MedGANError):
    """Something was tampered with or damaged."""


class LedgerError(IntegrityError):
    """A ledger whose chain is broken, or that is older than a copy held outside."""


class ReleaseError(IntegrityError):
    """A release that does not agree with its own manifest."""


class SourceError(MedGANError):
    """An archive that does not give what is asked of it. `passing`: it may, if it is asked again later.

    Says nothing of patients: it may be logged.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class RoundError(MedGANError):
    """The federation cannot go on."""


class UpdateError(RoundError):
    """An update of one site that is not acceptable."""


class TrainerError(RoundError):
    """A trainer that its node cannot reach, or that does not answer in time; says nothing of its data."""


class QuorumError(RoundError):
    """Too few acceptable updates in a round."""
