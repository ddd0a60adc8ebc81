"""Who signed a release: its receipts by the sites' keys, its manifest by the coordinator's.

With the keys that a person trusts all must be signed with them. Without, what is signed is held against the
keys that lie in the release itself; whoever changed it could have put in keys too, so its maker is not shown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medgan_core.errors import ReleaseError
from medgan_core.messages import Receipt
from medgan_core.privacy.sum_keys import signed_by
from medgan_core.public_card import fingerprint_of
from medgan_core.release.files import SIGNATURE
from medgan_core.release.signature import from_hex, read_signature
from medgan_core.release.trust import Trust


def check_receipts_signed(
    receipts: Sequence[Receipt], card_keys: Mapping[str, str], trust: Trust | None
) -> str:
    """A line on the receipts' signatures. ReleaseError names the first receipt that is not as it must be."""
    sites = sorted({receipt.site for receipt in receipts})
    if trust is not None:
        keys = {site: trust.of_site(site) for site in sites}
        _check_known(keys, card_keys)
        _check_each(receipts, keys, "with a key of the site that you trust")
        return f"{len(receipts)} receipts are signed with trusted keys of {len(sites)} sites"
    if not card_keys:
        signed = sum(bool(receipt.signature) for receipt in receipts)
        told = f"{signed} of {len(receipts)} receipts carry a signature, but the card has no keys to check it"
        return told if signed else "no signatures: integrity only"
    _check_each(
        receipts,
        {site: frozenset({key}) for site, key in card_keys.items()},
        "with the site's key on the card",
    )
    return (
        f"{len(receipts)} receipts are signed with the keys of {len(card_keys)} sites on the card: "
        "integrity only"
    )


def check_manifest(folder: Path, trust: Trust | None) -> tuple[str, str]:
    """A line on the manifest's signature, and the coordinator's name where it is a trusted one, else "".

    Raises ReleaseError naming what was changed after it was signed, or an unknown key.
    """
    told = read_signature(folder)
    if told is None:
        if trust is not None:
            raise ReleaseError(f"{SIGNATURE} is missing: no coordinator signed this release; get it again")
        return "manifest.json: no signature: integrity only", ""
    mark = fingerprint_of(told.key)
    if trust is None:
        return f"{SIGNATURE}: signed by a key that nobody vouched for, {mark}: integrity only", ""
    name = trust.coordinator(told.key)
    if name is None:
        raise ReleaseError(
            f"{SIGNATURE}: signed by an unknown key, {mark}: no coordinator that you trust has it; compare "
            "it with the coordinator by telephone"
        )
    return f"{SIGNATURE}: signed by the coordinator {name}, {mark}", name


def _check_known(keys: Mapping[str, frozenset[str]], card_keys: Mapping[str, str]) -> None:
    for site, trusted in keys.items():
        if not trusted:
            raise ReleaseError(
                f"receipts.json: you trust no key of site {site}; ask the site for its public card, and "
                "compare the fingerprint by telephone"
            )
        if site in card_keys and card_keys[site] not in trusted:
            raise ReleaseError(f"card.json: its key of site {site} is not one that you trust")


def _check_each(receipts: Sequence[Receipt], keys: Mapping[str, frozenset[str]], how: str) -> None:
    for receipt in receipts:
        signature, message = from_hex(receipt.signature), receipt.message()
        if not any(signed_by(from_hex(key), signature, message) for key in keys.get(receipt.site, ())):
            raise ReleaseError(
                f"receipts.json: the receipt of {receipt.site} for round {receipt.round} is not signed {how}"
            )
