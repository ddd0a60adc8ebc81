"""Releases that a coordinator has called back: a list that it signs as a whole, so that none can be left out.

A list tells what was recalled until it was issued. Offline nobody can tell whether there is a newer one: the
date is shown, and a person judges it.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from medgan_core.errors import InputError, ReleaseError
from medgan_core.privacy.sum_keys import sign, signed_by, verify_key_of
from medgan_core.public_card import fingerprint_of
from medgan_core.record import write_json
from medgan_core.release.card import ReleaseCard
from medgan_core.release.signature import from_hex, signed_message
from medgan_core.release.trust import Trust


class Recall(BaseModel):
    """One release, known by its weights: SHA-256 of generator.safetensors. `recalled` is UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator_sha256: str
    study: str
    run: str
    reason: str
    recalled: str


class RecallList(BaseModel):
    """What a file of recalls holds; `issued` is UTC, ISO 8601, `signature` by `key`, both in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    issued: str
    entries: tuple[Recall, ...]
    key: str
    signature: str = ""
    _name: str = PrivateAttr(default="recalls.json")

    @classmethod
    def read(cls, path: Path) -> Self:
        """A list of a file. InputError where it is none, ReleaseError where it was changed."""
        try:
            told = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, RecursionError) as error:
            raise InputError(
                f"{path.name}: expected a list of recalls: {error.__class__.__name__}"
            ) from error
        told._name = path.name
        if not signed_by(from_hex(told.key), from_hex(told.signature), told.message()):
            raise ReleaseError(f"{path.name} was changed: it is not signed by the key that it names")
        return told

    @property
    def name(self) -> str:
        """The file's name."""
        return self._name

    def message(self) -> bytes:
        """What the coordinator signs."""
        return signed_message("recalls", self)

    def entry(self, generator_sha256: str) -> Recall | None:
        """The recall of these weights, None where there is none."""
        return next((entry for entry in self.entries if entry.generator_sha256 == generator_sha256), None)

    def checked(self, trust: Trust | None) -> str:
        """Whose list it is. ReleaseError for a key that is unknown to whoever gave keys at all."""
        mark = fingerprint_of(self.key)
        if trust is None:
            return f"list by a key that nobody vouched for, {mark},"
        if (name := trust.coordinator(self.key)) is None:
            raise ReleaseError(
                f"{self.name}: signed by an unknown key, {mark}: no coordinator that you trust"
            )
        return f"list by the coordinator {name}"


def recall(card: ReleaseCard, reason: str, signing_key: bytes, path: Path) -> RecallList:
    """Add a release to the coordinator's list at `path`, which is made where there is none.

    Raises InputError without a reason, for a release that is listed already, or another coordinator's list.
    """
    if not reason.strip():
        raise InputError("--reason: say why, for those who hold the release")
    own = verify_key_of(signing_key).hex()
    known = RecallList.read(path) if path.exists() else None
    if known is not None and known.key != own:
        raise InputError(f"{path.name} is signed with another key: keep a list of your own")
    if known is not None and known.entry(card.generator_sha256) is not None:
        raise InputError(f"run {card.run} is on {path.name} already")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = Recall(
        generator_sha256=card.generator_sha256,
        study=card.study,
        run=card.run,
        reason=" ".join(reason.split()),
        recalled=now,
    )
    listed = RecallList(issued=now, entries=(*(known.entries if known else ()), entry), key=own)
    signed = listed.model_copy(update={"signature": sign(signing_key, listed.message()).hex()})
    write_json(path, signed.model_dump(mode="json"))
    return signed
