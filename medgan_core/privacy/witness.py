"""A copy of a ledger's head, held outside, by which a ledger that was put back is noticed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from medgan_core.errors import LedgerError
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

    def check(self, name: str, ledger: str, sequence: int, hash_at: Callable[[int], str | None]) -> None:
        """Compare with the ledger in the file `name`, of `sequence` entries whose hashes `hash_at` tells.

        LedgerError, with the way forward, where it is another one, or older than this.
        """
        if ledger != self.ledger:
            raise LedgerError(f"{name} is another ledger than the one known outside. {self.way_forward()}")
        if sequence < self.sequence:
            raise LedgerError(
                f"{name} is older than a copy of its head held outside: it ends at entry {sequence}, entry "
                f"{self.sequence} is known. {self.way_forward()}"
            )
        if hash_at(self.sequence) != self.head:
            raise LedgerError(
                f"{name}: entry {self.sequence} is not the one known outside, so the ledger was restored "
                f"from an older copy or rewritten. {self.way_forward()}"
            )

    def way_forward(self) -> str:
        """What to do where the ledger is missing, another, or older than this."""
        return (
            f"Bring back the newest copy of ledger {self.ledger} together with its key, at least as long as "
            f"{self.sequence} entries; if it is lost, what was spent on these patients is not known and they "
            "may not take part again"
        )
