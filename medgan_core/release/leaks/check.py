"""Does a folder hold anything of a real one? Every value of the real files is searched for in every new file.

A clean result says that what was searched for is not there as it was written; it is no proof of anonymity.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medgan_core.errors import DataError, InputError
from medgan_core.release.anonymize.files import every_file
from medgan_core.release.anonymize.silence import silence
from medgan_core.release.leaks.frames import ALIKE, Prints, alike, frames_of, hash_of, small
from medgan_core.release.leaks.search import Search
from medgan_core.release.leaks.unpack import layers
from medgan_core.release.leaks.values import Kind, Value, parsed, sorted_out, values_of

_SHOWN = 2


@dataclass
class Leaks:
    """What was searched for, and what was found.

    `searched`, `common` and `found` count distinct values by kind; `places` lists each leaked value, masked,
    with the number of files that hold it. `copies` and `alike` count frames of the new files that are equal
    to, or nearly the same as, a real one; both are None where pixels are known to be kept. `unread` counts
    files that could not be searched in full, by reason.
    """

    files: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    searched: Counter[str] = field(default_factory=Counter)
    common: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    frames: int = 0
    real_frames: int = 0
    copies: int | None = 0
    alike: int | None = 0

    @property
    def clean(self) -> bool:
        """Whether all could be searched and nothing was found."""
        return not (sum(self.found.values()) or self.copies or self.alike or self.unread)


def leak_check(folder: Path, against: Path, pixels_kept: bool = False) -> Leaks:
    """Search a folder for the values and the pixels of a real one.

    Raises InputError where a folder cannot be read, where they are the same, or where one has no file.
    """
    with silence():
        return _checked(folder, against, pixels_kept)


def _checked(folder: Path, against: Path, pixels_kept: bool) -> Leaks:
    if folder.resolve() == against.resolve():
        raise InputError("DIR and IN are the same folder: everything of it would be found")
    wanted: dict[Value, None] = {}
    common: dict[Value, None] = {}
    real = Prints()
    for name, content in every_file(against):
        some, dull = sorted_out(values_of(name, content))
        wanted |= some
        common |= dull
        for frame in () if pixels_kept else frames_of(content):
            real.add(frame)
    if not wanted:
        raise InputError(f"IN {against.name} has no value to search for: expected a folder of real files")
    return _Searching(wanted, common, real, pixels_kept).run(folder)


class _Searching:
    """One pass over the new files."""

    def __init__(
        self, wanted: dict[Value, None], common: dict[Value, None], real: Prints, pixels_kept: bool
    ) -> None:
        self.search = Search(wanted)
        self.common = common
        self.real, self.kept = real, pixels_kept
        self.hits: Counter[int] = Counter()
        self.excused: set[int] = set()

    def run(self, folder: Path) -> Leaks:
        leaks = Leaks(real_frames=self.real.frames)
        leaks.copies = leaks.alike = None if self.kept else 0
        dates = {value.text: i for i, value in enumerate(self.search.values) if value.kind == Kind.DATE}
        for name, content in every_file(folder):
            leaks.files += 1
            own = self._own_dates(content, dates)
            self.excused |= own
            self.hits.update(self._in_file(name, content, leaks) - own)
            if not self.kept:
                self._frames(content, leaks)
        if not leaks.files:
            raise InputError(f"DIR {folder.name} holds no file to search")
        self._tell(leaks)
        return leaks

    def _in_file(self, name: str, content: bytes, leaks: Leaks) -> set[int]:
        found = self.search.find(name.encode("utf-8", "surrogateescape"))
        try:
            for part in layers(content):
                found |= self._in_bytes(part)
        except DataError as reason:
            leaks.unread[str(reason)] += 1
        return found

    def _in_bytes(self, content: bytes) -> set[int]:
        pixels = _pixels_of(content)
        if len(pixels) <= len(content) // 8:
            return self.search.find(content)
        head, _, tail = content.partition(pixels)
        found = self.search.find(head) | self.search.find(tail)
        return found | self.search.find(pixels, strong_only=True)

    def _own_dates(self, content: bytes, dates: dict[str, int]) -> set[int]:
        """The day on which a synthetic file says that it was made, which may be that of a real study too."""
        dataset = parsed(content)
        if dataset is None or str(dataset.get("SyntheticData") or "") != "YES":
            return set()
        made = str(dataset.get("InstanceCreationDate") or "")
        written = {made, f"{made[:4]}-{made[4:6]}-{made[6:]}"}
        return {dates[text] for text in written if text in dates}

    def _frames(self, content: bytes, leaks: Leaks) -> None:
        thumbs = []
        for frame in frames_of(content):
            leaks.frames += 1
            if frame.min() == frame.max():
                continue
            if hash_of(frame) in self.real.hashes:
                leaks.copies = (leaks.copies or 0) + 1
                continue
            thumb = small(frame)
            thumbs += [] if thumb is None else [thumb.ravel()]
        if thumbs:
            near = alike(np.stack(thumbs), self.real.stacked())
            leaks.alike = (leaks.alike or 0) + int((near >= ALIKE).sum())

    def _tell(self, leaks: Leaks) -> None:
        values = self.search.values
        leaks.searched.update(str(value.kind) for i, value in enumerate(values) if i not in self.excused)
        leaks.common.update(str(value.kind) for value in self.common)
        leaks.common.update(str(values[i].kind) for i in self.excused if i not in self.hits)
        for number, files in sorted(self.hits.items()):
            leaks.found[str(values[number].kind)] += 1
            leaks.places.append(f"{values[number].kind}: {masked(values[number].text)} in {files} files")


def masked(value: str) -> str:
    """The first two characters of a value and its length: enough for its owner to know it, not for others."""
    shown = value[: _SHOWN if len(value) > 2 * _SHOWN else 0]
    return f"{''.join(c if c.isprintable() else '?' for c in shown)}… ({len(value)} characters)"


def _pixels_of(content: bytes) -> bytes:
    dataset = parsed(content)
    if dataset is None or "PixelData" not in dataset:
        return b""
    pixels = dataset["PixelData"].value
    return pixels if isinstance(pixels, bytes) and pixels in content else b""
