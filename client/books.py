"""The hospital's ledger and diary, opened together and compared with the copies of their heads."""

import math
from dataclasses import asdict
from typing import Any

from client.diary import Diary
from client.folder import SECRET, SiteFolder
from client.site_file import SiteFile
from medgan_core.errors import IntegrityError
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger, Witness
from medgan_core.record import read_json, write_json


def ledger_policy(config: SiteFile) -> LedgerPolicy:
    """What site.toml caps in all; without a cap where the images are public and privacy may be off."""
    policy = config.policy
    return LedgerPolicy(
        epsilon_cap=math.inf if policy.privacy_off else policy.epsilon,
        delta=policy.delta,
        trust_secure_sum=policy.trust_secure_sum,
        local_epsilon=math.inf if policy.privacy_off else policy.local_epsilon,
        max_repeats=policy.max_repeats,
    )


def found_ledger(folder: SiteFolder, config: SiteFile, diary: Diary) -> None:
    """Make a new site's ledger, once; from now on a missing one is one that was lost."""
    with PrivacyLedger.open(folder.ledger, config.name, ledger_policy(config)) as ledger:
        keep_heads(folder, ledger, diary)


def open_ledger(folder: SiteFolder, config: SiteFile, diary: Diary | None = None) -> PrivacyLedger:
    """The site's ledger, its chain checked and compared with heads.json; with a diary, that one too.

    LedgerError with the way forward where it is missing, damaged, or behind what is known of it.
    """
    heads = _heads(folder)
    if not heads and not folder.ledger.exists():
        raise IntegrityError(
            f"{folder.ledger.name} is missing: run medgan-client restore with the newest backup; init makes "
            "a ledger for a new site alone"
        )
    if diary is not None and "log" in heads:
        diary.check(int(heads["log"]["sequence"]), str(heads["log"]["head"]))
    return PrivacyLedger.open(folder.ledger, config.name, ledger_policy(config), witness_of(folder))


def witness_of(folder: SiteFolder) -> Witness | None:
    """The newest head of the ledger that heads.json knows."""
    heads = _heads(folder)
    try:
        return Witness(**heads["ledger"]) if "ledger" in heads else None
    except (TypeError, KeyError):
        raise _damaged(folder) from None


def keep_heads(folder: SiteFolder, ledger: PrivacyLedger, diary: Diary) -> None:
    """Copy the heads of ledger and diary beside them."""
    sequence, head = diary.head()
    write_json(
        folder.heads, {"ledger": asdict(ledger.witness()), "log": {"sequence": sequence, "head": head}}
    )
    folder.heads.chmod(SECRET)


def _heads(folder: SiteFolder) -> dict[str, dict[str, Any]]:
    if not folder.heads.exists():
        return {}
    found = read_json(folder.heads)
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise _damaged(folder)
    return found


def _damaged(folder: SiteFolder) -> IntegrityError:
    return IntegrityError(f"{folder.heads.name} is damaged: bring it back from a backup of this folder")
