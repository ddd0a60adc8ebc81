"""Small archives for tests, and where the real ones are."""

import csv
import gzip
import io
import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgan_core.config import DataConfig

REPOSITORY = Path(__file__).parents[3]


def shared(name: str) -> Path:
    """The data root that has this set; skips the test where it is not here."""
    root = Path(os.environ.get("MEDGAN_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (root / name).exists():
        pytest.skip(f"the set {name} is not in MEDGAN_DATA or ../shared/data")
    return root


def config(kind: str, path: str, **rest: Any) -> DataConfig:
    return DataConfig.model_validate({"kind": kind, "path": path, **rest})


def pictures(count: int, side: int = 28, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def image_bytes(side: int = 28, seed: int = 0, *, form: str = "PNG", mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pictures(1, side, seed)[0]).convert(mode).save(stream, form)
    return stream.getvalue()


def write_image(path: Path, side: int = 28, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes(side, seed, form="JPEG" if path.suffix == ".jpeg" else "PNG"))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def idx_bytes(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.tobytes()


def write_idx(folder: Path, train: int = 12, test: int = 5, *, zipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", train, 0), ("t10k", test, 1)):
        arrays = {
            "images-idx3": pictures(count, 28, seed),
            "labels-idx1": np.arange(count, dtype=np.uint8) % 10,
        }
        for name, array in arrays.items():
            body = idx_bytes(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(body) if zipped else body)


def mask_bytes(side: int = 28, value: int = 255, *, form: str = "PNG", mode: str = "L") -> bytes:
    """A mask whose left half is set."""
    pixels = np.zeros((side, side), np.uint8)
    pixels[:, : side // 2] = value
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


def head(shape: tuple[int, int, int] = (24, 30, 16), seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An ellipsoid of noise in the middle of a volume [x, y, z]; bright towards the front."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.8
    values = 200 + 100 * axes[1] + np.random.default_rng(seed).uniform(0, 20, shape)
    return np.where(inside, values, 0).astype(np.float32)


def write_nifti(path: Path, values: np.ndarray[Any, Any], affine: np.ndarray[Any, Any] | None = None) -> Path:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 3, 1]) if affine is None else affine), path)
    return path
