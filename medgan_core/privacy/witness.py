"""A copy of a ledger's head, held outside, by which a ledger that was put back is noticed."""

from dataclasses import dataclass
from typing import Self

from medgan_core.messages import Receipt


@dataclass(frozen=True)
class Witness:
    """`head` is the hash of entry `sequence` (from 1) of the ledger of this name."""

    ledger: str
    sequence: int
    head: str

    @classmethod
    def of_receipt(cls, receipt: Receipt) -> Self:
        """Every receipt is a witness of the ledger that gave it."""
        return cls(receipt.ledger, receipt.sequence, receipt.head)

    def way_forward(self) -> str:
        """What to do where the ledger is missing, another, or older than this."""
        return (
            f"Bring back the newest copy of ledger {self.ledger} together with its key, at least as long as "
            f"{self.sequence} entries; if it is lost, what was spent on these patients is not known and they "
            "may not take part again"
        )
