"""Backups of a ledger with its key, and the way back: one file that only its owner may read.

What was spent may not be forgotten, so a backup that is behind any known head of the ledger is refused.
"""

import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from client.books import keep_heads, ledger_policy, open_ledger, witness_of
from client.diary import Diary
from client.folder import CLOSED, SiteFolder, alone, replace_private, write_private
from client.hospital import withdrawn_patients
from medgan_core.disk import fsync_folder
from medgan_core.errors import InputError, LedgerError
from medgan_core.privacy.ledger import PrivacyLedger, Witness
from medgan_core.record import read_json

_LEDGER, _KEY, _WITHDRAWN = "ledger.sqlite", "ledger.sqlite.key", "withdrawn.json"
_LARGEST = 4 << 30


def back_up(folder: SiteFolder, target: Path) -> Witness:
    """Write ledger, key and withdrawals into one new file of mode 0600; the trainer may go on meanwhile."""
    config, diary = folder.config(), Diary(folder.log)
    with open_ledger(folder, config, diary) as ledger:
        ledger.verify()
        copied = _copy(folder.ledger)
        with _scratch(folder) as scratch:
            (scratch / _LEDGER).write_bytes(copied)
            shutil.copyfile(folder.ledger_key, scratch / _KEY)
            with PrivacyLedger.open(scratch / _LEDGER, config.name, ledger.policy) as copy:
                witness = copy.witness()
        parts = {_LEDGER: copied, _KEY: folder.ledger_key.read_bytes()}
        parts[_WITHDRAWN] = json.dumps(sorted(withdrawn_patients(folder))).encode()
        write_private(target, _packed(parts))
        diary.add("backup", sequence=witness.sequence, head=witness.head)
        keep_heads(folder, ledger, diary)
    return witness


def restore(folder: SiteFolder, source: Path, outside: Witness | None = None) -> Witness:
    """Bring back a ledger with its key. The old one is kept beside it.

    `outside` is a head that the coordinator knows. LedgerError, with the way forward, where the backup is
    behind it, behind heads.json, or behind the ledger that is here; nothing is changed then.
    """
    config, diary, parts = folder.config(), Diary(folder.log), _unpacked(source)
    with alone(folder), _scratch(folder) as scratch:
        write_private(scratch / _LEDGER, parts[_LEDGER])
        write_private(scratch / _KEY, parts[_KEY])
        with PrivacyLedger.open(scratch / _LEDGER, config.name, ledger_policy(config)) as ledger:
            for known in (_known(folder), _present(folder), outside):
                if known is not None:
                    ledger.compare(known)
        _swap(folder, scratch)
        gone = withdrawn_patients(folder) | set(json.loads(parts.get(_WITHDRAWN, b"[]")))
        replace_private(folder.withdrawn, json.dumps(sorted(gone), indent=1).encode())
        with PrivacyLedger.open(folder.ledger, config.name, ledger_policy(config)) as ledger:
            diary.add("restore", sequence=ledger.witness().sequence, head=ledger.witness().head)
            keep_heads(folder, ledger, diary)
            return ledger.witness()


def read_witness(path: Path) -> Witness:
    """A head of a ledger from a file that the coordinator gave. InputError where it is none."""
    try:
        body = read_json(path)
        return Witness(str(body["ledger"]), int(body["sequence"]), str(body["head"]))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path.name}: expected JSON with ledger, sequence and head") from None


def _known(folder: SiteFolder) -> Witness | None:
    """What heads.json knows; a ledger that init has just made is worth nothing yet."""
    known = witness_of(folder)
    return known if known is not None and known.sequence > 1 else None


def _present(folder: SiteFolder) -> Witness | None:
    """The head of the ledger that is here, where it can be read and was used."""
    try:
        with PrivacyLedger.open(
            folder.ledger, folder.config().name, ledger_policy(folder.config())
        ) as ledger:
            found = ledger.witness()
    except LedgerError:
        return None
    return found if found.sequence > 1 else None


def _swap(folder: SiteFolder, scratch: Path) -> None:
    """Put the key first: a ledger without its key is refused, and so is a key without its ledger."""
    for old in (folder.ledger, folder.ledger_key):
        if old.exists():
            old.replace(old.with_name(f"{old.name}.replaced"))
    (scratch / _KEY).replace(folder.ledger_key)
    (scratch / _LEDGER).replace(folder.ledger)
    fsync_folder(folder.ledger.parent)


def _copy(path: Path) -> bytes:
    """A consistent copy of a database that others may write to."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source:
        return source.serialize()


def _packed(parts: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def _unpacked(path: Path) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for info in archive:
                file = archive.extractfile(info)
                if info.name in (_LEDGER, _KEY, _WITHDRAWN) and file is not None and info.size < _LARGEST:
                    parts[info.name] = file.read()
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{path.name} is no backup of a site ({type(error).__name__})") from None
    if not {_LEDGER, _KEY} <= parts.keys():
        raise InputError(f"{path.name} is no backup of a site: expected {_LEDGER} and {_KEY} in it")
    return parts


@contextmanager
def _scratch(folder: SiteFolder) -> Iterator[Path]:
    """A folder beside the ledger, for its owner alone, gone afterwards."""
    path = folder.ledger.parent / ".scratch"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=CLOSED)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
