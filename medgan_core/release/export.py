"""Synthetic images on disk: one npz without pickle, or a folder of PNG files by class."""

import csv
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgan_core.errors import InputError
from medgan_core.release.swap import swapped_in

Format = Literal["npz", "png"]
_TABLE, _NOTICE = "labels.csv", "NOTICE.txt"
_WORDS = "NOT PRIVATE: the generator was trained without differential privacy and may show real patients.\n"


def write_samples(
    out: Path,
    kind: Format,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    privacy: Literal["dp", "NOT PRIVATE"],
    *,
    apart: bool = False,
) -> None:
    """Write images [N, H, W] or [N, H, W, C] with labels [N] to `out`; parents are created.

    `apart`: the channels are no colours. A PNG then shows them beside each other, an npz keeps its axes.
    Raises InputError where `out` cannot be written; what was there is then untouched.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if apart and kind == "png":
            images = np.concatenate(np.moveaxis(images, 3, 0), axis=2)
        {"npz": write_npz, "png": write_png}[kind](out, images, labels, classes, privacy)
    except OSError as error:
        raise InputError(f"--out {out.name}: {error.strerror}; choose another place") from error


def write_npz(
    out: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str], privacy: str
) -> None:
    """`images`, `labels`, `classes` [K] and `privacy` [] (both unicode) in one file, replaced atomically."""
    if out.is_dir():
        raise InputError(f"--out {out.name} is a folder: an npz needs the name of a file")
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as stream:
            names, promise = np.array(classes, np.str_), np.array(privacy)
            np.savez(stream, allow_pickle=False, images=images, labels=labels, classes=names, privacy=promise)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def write_png(
    out: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str], privacy: str
) -> None:
    """`out/<class>/<index>.png` and labels.csv (file, label, class); an earlier export is replaced.

    Every PNG says in its text that it is synthetic, and whether it is private.
    """
    if out.exists() and not _earlier_export(out):
        raise InputError(f"--out {out.name} exists and is no earlier export: choose an empty or a new folder")
    folders = folder_names(classes)
    text = PngInfo()
    text.add_text("Source", "synthetic image, drawn by MedGAN")
    text.add_text("Privacy", privacy)
    with swapped_in(out) as part:
        for label in np.unique(labels):
            (part / folders[label]).mkdir()
        with (part / _TABLE).open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["file", "label", "class"])
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                file = f"{folders[label]}/{index:06d}.png"
                Image.fromarray(image).save(part / file, pnginfo=text)
                table.writerow([file, int(label), classes[label]])
        if privacy != "dp":
            (part / _NOTICE).write_text(_WORDS, encoding="utf-8")


def folder_names(classes: Sequence[str]) -> list[str]:
    """A safe and distinct folder name for each class: no separators, no leading dots, never empty."""
    taken, names = {_TABLE.lower(), _NOTICE.lower()}, []
    for index, name in enumerate(classes):
        safe = re.sub(r"[^\w .+-]", "_", name).strip(" .")[:80] or f"class-{index}"
        while safe.lower() in taken:
            safe = f"{safe}-{index}"
        taken.add(safe.lower())
        names.append(safe)
    return names


def _earlier_export(folder: Path) -> bool:
    """Whether a folder is empty or holds nothing but an export."""
    if not folder.is_dir():
        return False
    files = [path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()]
    known = (str(f) in (_TABLE, _NOTICE) or re.fullmatch(r"[^/]+/\d+\.png", f.as_posix()) for f in files)
    return all(known) and (not files or (folder / _TABLE).is_file())
