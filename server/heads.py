"""The newest heads of the sites' ledgers that this coordinator knows, by their own receipts.

They go out with every proposal: a site whose ledger is older, since a backup was restored, must not go on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medgan_core.messages import Receipt
from medgan_core.record import make_folder, read_json, write_json


def keep_heads(folder: Path, receipts: Iterable[Receipt]) -> None:
    """Keep the newest head of each site; a ledger that was begun anew replaces the one before it."""
    make_folder(folder)
    for receipt in receipts:
        path = folder / f"{receipt.site}.json"
        known = read_json(path) if path.is_file() else {}
        if known.get("ledger") != receipt.ledger or known["sequence"] < receipt.sequence:
            told = {"ledger": receipt.ledger, "sequence": receipt.sequence, "head": receipt.head}
            write_json(path, told)


def known_heads(folder: Path, sites: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The newest head of each of these sites that is known."""
    return {site: read_json(path) for site in sites if (path := folder / f"{site}.json").is_file()}
