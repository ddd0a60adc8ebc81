"""What every server of images can do for us, whatever it speaks."""

from collections.abc import Callable, Mapping
from typing import Protocol

from pydicom import Dataset

Receive = Callable[[bytes], None]


class Source(Protocol):
    """A hospital's archive. Every call may raise SourceError, and may come from several threads at once."""

    def studies(self, keys: Mapping[str, str]) -> list[Dataset]:
        """The studies that fit these keys, and maybe others, with what the server tells of them."""
        ...

    def series(self, study: str) -> list[Dataset]:
        """The series of a study."""
        ...

    def objects(self, study: str, series: str) -> frozenset[str]:
        """The SOP Instance UIDs of a series."""
        ...

    def fetch(self, study: str, series: str, receive: Receive) -> None:
        """Hand over every object of a series as the bytes of a DICOM file, from memory, one after another.

        What `receive` raises ends the transfer and is raised here.
        """
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...
