"""Withdrawal of consent: the patient is in no future round; what was spent stays on the account."""

import json

from client.books import keep_heads
from client.diary import Diary
from client.folder import SiteFolder, replace_private
from client.hospital import withdrawn_patients
from medgan_core.privacy.ledger import PrivacyLedger


def withdraw(folder: SiteFolder, ledger: PrivacyLedger, diary: Diary, patient: str) -> bool:
    """Leave a patient out of every future round. False where that was so already.

    Kept is a pseudonym under the ledger's key, never the patient's key itself.
    """
    known, pseudonym = withdrawn_patients(folder), ledger.pseudonym(patient)
    if pseudonym in known:
        return False
    replace_private(folder.withdrawn, json.dumps(sorted(known | {pseudonym}), indent=1).encode())
    diary.add("withdrawn", patients=len(known) + 1)
    keep_heads(folder, ledger, diary)
    return True
