"""Images by name, loose in a folder or in zips; nothing is ever unpacked to disk."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medgan_core.data.places import Place, inside, reading
from medgan_core.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Store:
    """The files of a folder and of the zips in it, by name; nothing is ever unpacked to disk.

    `without` lies beside the images and is none of them: their masks.
    """

    place: Place
    members: dict[str, list[tuple[zipfile.ZipFile, str]]]
    without: Path | None = None

    def files(self) -> Iterator[str]:
        """Every image by its name for `read`, loose ones first; one that two zips hold comes once."""
        for path in self._loose():
            yield path.relative_to(self.place.path).as_posix()
        yield from filter(_is_image, self.members)

    def _loose(self) -> list[Path]:
        found = self.place.path.rglob("*") if self.place.path.is_dir() else ()
        images = (path for path in found if _is_image(path.relative_to(self.place.path).as_posix()))
        return sorted(path for path in images if not self.without or self.without not in path.parents)

    def names(self) -> Iterator[tuple[str, str]]:
        """Each image as (class folder, file name below it): the first folder, or the zip it lies bare in."""
        for path in self._loose():
            yield _split_class(path.relative_to(self.place.path).as_posix(), "", self.place.shown(path))
        for name, found in self.members.items():
            if _is_image(name):
                for archive, _ in found:
                    stem = Path(str(archive.filename)).stem
                    yield _split_class(name, stem, f"{self.place.shown()}/{name}")

    def locate(self, name: str, where: str) -> tuple[Path, str]:
        """The file on disk that a name stands for, and the member of it where it is a zip, else "".

        Raises DataError that names the row.
        """
        if not inside(name):
            raise DataError(f"{where}: file {name!r} leaves the folder of the set")
        path = self.place.path / name
        with reading(f"{where}: {name}"):
            if self.place.path.is_dir() and path.is_file():
                if not path.resolve().is_relative_to(self.place.path.resolve()):
                    raise DataError(f"{where}: file {name!r} is a link that leaves the folder of the set")
                return path, ""
        found = self.members.get(name, [])
        if len(found) != 1:
            how = "is neither in the folder nor in its zips" if not found else "is in more than one zip"
            raise DataError(f"{where}: file {name} {how}")
        return Path(str(found[0][0].filename)), name

    def read(self, name: str, where: str) -> tuple[bytes, Path]:
        """The bytes of a file and the file on disk they come from. Raises DataError that names the row."""
        path, member = self.locate(name, where)
        if not member:
            with reading(f"{where}: {name}"):
                return path.read_bytes(), path
        ((archive, _),) = self.members[name]
        with reading(f"{where}: {name} in {self.place.shown(path)}"):
            return archive.read(member), path


def open_store(place: Place, stack: ExitStack, without: Path | None = None) -> Store:
    """Open a folder with its zips, or one zip, until the stack closes; all but what lies at `without`."""
    found = sorted(place.path.glob("*.zip")) if place.path.is_dir() else [place.path]
    zips = [path for path in found if path != without]
    members: dict[str, list[tuple[zipfile.ZipFile, str]]] = {}
    for path in zips:
        with reading(place.shown(path)):
            archive = stack.enter_context(zipfile.ZipFile(path))
            for info in archive.infolist():
                if not info.is_dir():
                    members.setdefault(info.filename, []).append((archive, info.filename))
    return Store(place, members, without)


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name.lower().endswith(SUFFIXES) and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _split_class(name: str, default: str, where: str) -> tuple[str, str]:
    first, separator, rest = name.partition("/")
    if separator:
        return first, rest
    if not default:
        raise DataError(
            f"{where} is in no class folder; expected one folder for each class, or a manifest.csv"
        )
    return default, name
