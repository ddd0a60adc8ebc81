"""Whom a person trusts: public keys that came another way than the release, compared by telephone.

A line for each key, `coordinator NAME KEY` or `site NAME KEY`, the key being Ed25519 in 64 hex digits; empty
lines and those that begin with # say nothing. A name may have several keys, since sites change theirs. A
site's public-card.json is such a file too, and a folder is all of its files that end with .keys or .json.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgan_core.errors import InputError, IntegrityError
from medgan_core.public_card import NAME, PublicCard, fingerprint_of

Role = Literal["coordinator", "site"]
_LINE = re.compile(rf"(coordinator|site) ({NAME.pattern}) ([0-9a-f]{{64}})")


@dataclass(frozen=True)
class TrustedKey:
    """One key of a party; `key` is in hex."""

    role: Role
    name: str
    key: str

    def line(self) -> str:
        """As a file of keys holds it."""
        return f"{self.role} {self.name} {self.key}"

    def told(self) -> str:
        """What people read to each other."""
        return f"{self.role} {self.name}: {fingerprint_of(self.key)}"


@dataclass(frozen=True)
class Trust:
    """Trusted keys: the sites' by name, since a receipt says whose it is, and the coordinators'."""

    keys: tuple[TrustedKey, ...]

    @classmethod
    def read(cls, path: Path) -> "Trust":
        """The keys of a file or a folder. InputError for what is no key, or where there is none."""
        keys = tuple(key for file in _files(path) for key in _keys_of(file))
        if not keys:
            raise InputError(
                f"--trust {path.name}: it holds no key; expected lines `site NAME KEY` or "
                "`coordinator NAME KEY`"
            )
        return cls(keys)

    def of_site(self, site: str) -> frozenset[str]:
        """The keys, in hex, with which this site may sign."""
        return frozenset(key.key for key in self.keys if (key.role, key.name) == ("site", site))

    def coordinator(self, key: str) -> str | None:
        """The name of the coordinator whose key it is, None for an unknown one."""
        return next((k.name for k in self.keys if (k.role, k.key) == ("coordinator", key)), None)


def keys_text(sites: Mapping[str, str], coordinator: TrustedKey) -> str:
    """The lines of a coordinator and its sites, by name and key in hex."""
    keys = (coordinator, *(TrustedKey("site", name, key) for name, key in sorted(sites.items())))
    return "".join(f"{key.line()}\n" for key in keys)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in (".keys", ".json") and file.is_file())
    if not path.is_file():
        raise InputError(f"--trust {path.name}: expected a file of public keys, or a folder of them")
    return [path]


def _keys_of(file: Path) -> Iterator[TrustedKey]:
    if file.suffix == ".json":
        try:
            card = PublicCard.read(file)
        except IntegrityError as error:
            raise InputError(f"--trust: {error}") from error
        yield TrustedKey("site", card.name, card.verify_key)
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"--trust {file.name}: it cannot be read: {error.__class__.__name__}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (found := _LINE.fullmatch(" ".join(line.split()))) is None:
            raise InputError(
                f"--trust {file.name}, line {number}: expected `site NAME KEY` or `coordinator NAME KEY`, "
                "the key in 64 hex digits"
            )
        yield TrustedKey("site" if found[1] == "site" else "coordinator", found[2], found[3])
