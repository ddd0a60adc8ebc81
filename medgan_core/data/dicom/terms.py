"""What a site's person decides about reading, and what reading gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from medgan_core.data.dicom.report_card import ReportCard

_KEY_LENGTH = 32


@dataclass(frozen=True)
class Terms:
    """How a site reads; the default is that of published sets.

    `pseudonym` hashes a patient under the site's key; without it patients keep their own keys, and nothing is
    cached. `needs_patient`: images without one are refused. `text_check`: text in pixels is looked for.
    `strict`: the first file that is refused ends reading, with its name. `cache`: the folder of the cache;
    `cache_key`: 32 bytes or more that encrypt it.
    """

    pseudonym: Callable[[str], str] | None = None
    needs_patient: bool = True
    text_check: bool = False
    strict: bool = False
    cache: Path | None = None
    cache_key: bytes | None = field(default=None, repr=False)

    def patient(self, text: str) -> str:
        """How a patient is called from here on."""
        return self.pseudonym(text) if self.pseudonym else text

    def file(self, name: str) -> str:
        """What stands for a file's name, which may hold a patient's."""
        hashed = (
            self.pseudonym(f"file\n{name}")
            if self.pseudonym
            else sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        )
        return hashed[:_KEY_LENGTH]


PUBLISHED = Terms()


@dataclass(frozen=True, eq=False)
class Ingested:
    """Images [n, c, s, s] float32 in [-1, 1] with a label, a patient and the key of their file each.

    Labels are "" without a function for them. `named` tells whether the file names its patient.
    """

    images: Tensor
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    named: tuple[bool, ...]
    files: tuple[str, ...]
    report: ReportCard
