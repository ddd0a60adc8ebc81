"""What lies in the input: files of any depth, by kind, and which of them belong together."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medgan_core.data.dicom.header import Header, read_header
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.sources import Source, find
from medgan_core.data.store import SUFFIXES
from medgan_core.data_config import DataConfig, modality_of
from medgan_core.errors import InputError
from medgan_core.release.apply.arrays import Archive
from medgan_core.release.apply.dicom import Slices
from medgan_core.release.apply.nifti import Volume, is_nifti
from medgan_core.release.apply.pictures import Case
from medgan_core.release.apply.rasters import Raster

_OUT_OF_QUESTION = (Refusal.DICOMDIR, Refusal.SOP_CLASS, Refusal.LOCALIZER)
"""Files that are no images of a patient's body to begin with: they are left out, and that is no failure."""
_PLANAR = ("CT", "MR", "PT")


@dataclass
class Found:
    """The cases, and by name why a file is `left` out, or `failed` to be read."""

    cases: list[Case] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def find_cases(source: Path, data: DataConfig, modalities: Sequence[str], *, series: bool) -> Found:
    """All that lies at `source`, a file or a folder. `series`: slices of one series are one case.

    `modalities` are the volumes that the network takes, which names of NIfTI files end in. Raises InputError
    where nothing is there.
    """
    if not source.exists():
        raise InputError(f"IN {source.name}: no such file or folder")
    found = Found()
    plain = sorted(_files(source))
    for name, path in plain:
        if name.lower().endswith(SUFFIXES):
            found.cases.append(Raster(path, name))
        elif name.lower().endswith(".npz"):
            found.cases.append(Archive(path, name))
    volumes = [(name, path) for name, path in plain if is_nifti(name)]
    _add_volumes(found, volumes, data, modalities)
    archive = source.is_file() and _other(source.name)  # an npz is a zip, too
    rest: list[tuple[str, Source]]
    rest = [] if archive else [(name, one) for name, one in find(source) if not _other(name)]
    _add_slices(found, rest, data, series)
    if not (found.cases or found.failed):
        raise InputError(f"IN {source.name} holds no image: expected DICOM, NIfTI, PNG, JPEG, TIFF or npz")
    return found


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    """Files that are no links, without hidden ones, by their names below the folder."""
    if source.is_file():
        yield source.name, source
        return
    for folder, below, files in os.walk(source):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for file in files:
            path = Path(folder) / file
            if not file.startswith(".") and path.is_file() and not path.is_symlink():
                yield path.relative_to(source).as_posix(), path


def _other(name: str) -> bool:
    return name.lower().endswith((*SUFFIXES, ".npz")) or is_nifti(name)


def _add_volumes(
    found: Found, files: Sequence[tuple[str, Path]], data: DataConfig, modalities: Sequence[str]
) -> None:
    """Files of one study together; a network of one modality takes files that name none, too."""
    wanted = [modality_of(name) for name in modalities]
    if len(wanted) < 2:
        named = [pair for pair in files if _modality(pair[0]) in wanted]
        for name, path in named or files:
            found.cases.append(Volume([path], name, data))
        others = [name for name, _ in files if named and _modality(name) not in wanted]
        found.left += [(name, f"the network takes {modalities[0]}") for name in others]
        return
    studies: dict[str, dict[str, tuple[str, Path]]] = {}
    for name, path in files:
        if _modality(name) in wanted:
            studies.setdefault(_study(name), {})[_modality(name)] = (name, path)
        else:
            found.left.append((name, f"the network takes {', '.join(modalities)}"))
    for study, parts in studies.items():
        missing = [name for name in wanted if name not in parts]
        if missing:
            found.failed.append((study, f"has no {', '.join(missing)}, which the network takes"))
        else:
            found.cases.append(Volume([parts[name][1] for name in wanted], parts[wanted[0]][0], data))


def _study(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent / _stem(path.name).rpartition("_")[0]).as_posix()


def _modality(name: str) -> str:
    return modality_of(_stem(PurePosixPath(name).name).rpartition("_")[2])


def _stem(name: str) -> str:
    return name[: -len(".nii.gz")] if name.lower().endswith(".gz") else name[: -len(".nii")]


def _add_slices(found: Found, files: Sequence[tuple[str, Source]], data: DataConfig, series: bool) -> None:
    groups: dict[str, list[tuple[str, Source]]] = {}
    again: dict[tuple[str, tuple[float, ...]], int] = {}
    for name, one in files:
        try:
            header = read_header(one, "all", training=False)
        except QuarantineError as error:
            (found.left if _expected(name, error.reason, len(files)) else found.failed).append(
                (name, str(error))
            )
            continue
        if header.localizer:
            found.left.append((name, str(QuarantineError(Refusal.LOCALIZER))))
            continue
        key = header.series if series and _is_slice(header) else ""
        # Echoes, phases and directions of a series lie in the same places: each is a volume of its own.
        place = (key, header.frames[0].position)
        again[place] = again.get(place, -1) + 1
        groups.setdefault(f"{key} {again[place]}" if key else f"file {name}", []).append((name, one))
    found.cases += [Slices(group, data) for group in groups.values()]


def _expected(name: str, reason: Refusal, files: int) -> bool:
    """Whether a file stands beside images by right: one that has another name than DICOM's, among others."""
    plain = (
        reason is Refusal.NOT_DICOM and files > 1 and not name.lower().endswith((".dcm", ".dicom", ".ima"))
    )
    return plain or reason in _OUT_OF_QUESTION


def _is_slice(header: Header) -> bool:
    """Whether it is one of several planes of a volume."""
    return header.kind in _PLANAR and len(header.frames) == 1 and bool(header.frames[0].position)
