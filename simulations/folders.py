"""A study's data as the folders of separate hospitals: what each of them would have on its own disk."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medgan_core.config import Study
from medgan_core.data.source import Site, SiteData
from medgan_core.record import make_folder
from medgan_core.seeds import Seeds
from simulations.phantoms import make_phantoms

_MANIFEST = "manifest.csv"


def write_phantoms(study: Study, folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Draw the phantoms of a study; each site gets its own DICOM files with a manifest, by name.

    Raises ValueError for a study without phantoms.
    """
    if study.phantoms is None:
        raise ValueError("the study has no phantoms")
    whole = folder / "phantoms"
    make_phantoms(whole, study.phantoms, len(names), Seeds(study.seed).child("phantoms"))
    with (whole / _MANIFEST).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    made = {}
    for name in names:
        made[name] = folder / name
        make_folder(made[name])
        shutil.move(whole / name, made[name] / name)
        own = [row for row in rows if row["site"] == name]
        with (made[name] / _MANIFEST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["file", "patient", "label"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(own)
    shutil.rmtree(whole)
    return made


def write_site(site: Site, folder: Path) -> Path:
    """A site's part of a published set as `images.npz` and, where it has patients, `patients.csv`.

    The images are those that the study trains on, in 8 bits; training patients are "train", held-out ones
    "test". Returns the folder.
    """
    make_folder(folder)
    parts = {"train": site.training, "test": site.held_out}
    arrays = {f"{split}_images": _pictures(part) for split, part in parts.items()}
    arrays |= {f"{split}_labels": part.labels.numpy() for split, part in parts.items()}
    np.savez_compressed(folder / "images.npz", **arrays)  # type: ignore[arg-type]
    if site.training.card.unit == "patient":
        with (folder / "patients.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("split", "index", "patient_key"))
            for split, part in parts.items():
                keys = [part.patients[owner] for owner in part.owner.tolist()]
                writer.writerows((split, index, key) for index, key in enumerate(keys))
    return folder


def _pictures(part: SiteData) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Uint8 [n, h, w], or [n, h, w, 3]."""
    bytes_ = ((part.images + 1) * 127.5).round().to(torch.uint8)
    return (bytes_.squeeze(1) if bytes_.shape[1] == 1 else bytes_.permute(0, 2, 3, 1)).numpy()
