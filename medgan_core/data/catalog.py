"""The published sets by name: where they come from, their licence, and the digests of the files that we read.

A set is public only where its files are the published ones, byte for byte: nothing that a study says can
declare images public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from medgan_core.errors import DataError


@dataclass(frozen=True)
class PublishedSet:
    """A set that its authors published.

    `name` is its folder below the data root, `address` the official archive, `files` the sha256 of each
    file that we read, by its path inside of the folder.
    """

    name: str
    title: str
    address: str
    licence: str
    files: Mapping[str, str]


PUBLISHED: Mapping[str, PublishedSet] = MappingProxyType(
    {
        "pneumoniamnist": PublishedSet(
            name="pneumoniamnist",
            title="PneumoniaMNIST (MedMNIST v2)",
            address="https://zenodo.org/records/10519652",
            licence="CC BY 4.0",
            files=MappingProxyType(
                {
                    "patient_link.csv": "13c821970154e16861681becb9cf3530425768425e1013b118970874edff256c",
                    "pneumoniamnist.npz": "7eb67efa242e38883d038c61d4bb9d1b5b60a08aa2749d45ad167b79b5fa9987",
                }
            ),
        ),
        "kermany_cxr_224": PublishedSet(
            name="kermany_cxr_224",
            title="Paediatric chest X-rays (Kermany et al. 2018)",
            address="https://data.mendeley.com/datasets/rscbjbr9sj/2",
            licence="CC BY 4.0",
            files=MappingProxyType(
                {
                    "images_0.zip": "993e3fb9724c63e9ea85c08cc027d373898f0c4d381069bb006801364249718e",
                    "images_1.zip": "043adab4932d6c1296c7a76087b6c782afa7af27a7a3abf675d73c08ccebc750",
                    "images_2.zip": "dc273ea5d64e82f1d570fcbf999f5b620749e941090544462cb9784f0f89ee07",
                    "images_3.zip": "af59d3f83ed37a9bde71d8fba85a08b61526b1eced4ce200604e06cb2f778b2b",
                    "images_4.zip": "32f18584882b76790943decb25319c008425c22032c7755caf60bcd8375ed62e",
                    "images_5.zip": "ecd1261cf3c0f78f603ee462d45e2dcb04dbbef363c2f0ee6f04735651f731f1",
                    "index.csv": "3c4897b27010b44e5baa474736382d0911862a62a0beda692d6a9501cdbc1898",
                }
            ),
        ),
        "mednist_subset": PublishedSet(
            name="mednist_subset",
            title="MedNIST, a subset of 7200 images",
            address="https://github.com/Project-MONAI/MONAI-extra-test-data/releases",
            licence="CC BY-SA 4.0",
            files=MappingProxyType(
                {
                    "AbdomenCT.zip": "dd3f4992e7f97ef96827081cf3e1a94027ebf5c1fd6fae9a97de9dbc04818850",
                    "BreastMRI.zip": "2713c764e0deba66cf8c94c507f506ba292685f9ab097f7cd1183c5a0f44bc6e",
                    "CXR.zip": "8ec31fdf2fd3d4e9875637e35d46707ff1a62671ce1e873557482b3df1d4e386",
                    "ChestCT.zip": "f4731f2c72a78dd0f8822c6e7c3bed565116e3e3171701286bb2be00f3f27257",
                    "Hand.zip": "2cde0019db06385e785c34943c4611d41552d581b6b9ba127446cd068621f38a",
                    "HeadCT.zip": "29173279521f70176b308983232638770426121e631010805d2e8cb38d608ad0",
                }
            ),
        ),
        "mnist": PublishedSet(
            name="mnist",
            title="MNIST handwritten digits",
            address="https://yann.lecun.com/exdb/mnist/",
            licence="CC BY-SA 3.0",
            files=MappingProxyType(
                {
                    "t10k-images-idx3-ubyte.gz": (
                        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
                    ),
                    "t10k-labels-idx1-ubyte.gz": (
                        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
                    ),
                    "train-images-idx3-ubyte.gz": (
                        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
                    ),
                    "train-labels-idx1-ubyte.gz": (
                        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
                    ),
                }
            ),
        ),
    }
)


def published(place: Path) -> PublishedSet | None:
    """The set whose files at this place (a folder, or one of its files) all have the catalogue's digests."""
    folder = place if place.is_dir() else place.parent
    for candidate in PUBLISHED.values():
        paths = {folder / name: digest for name, digest in candidate.files.items()}
        if all(path.is_file() for path in paths) and all(_sha256(p) == d for p, d in paths.items()):
            return candidate
    return None


def missing(path: str) -> DataError:
    """The error for a file (its path below the data root) that is not there: whence it comes and goes."""
    name = path if not Path(path).is_absolute() else Path(path).name
    known = PUBLISHED.get(next(iter(PurePosixPath(name).parts), ""))
    source = f"; {known.title} comes from {known.address}" if known else ""
    return DataError(
        f"{name} is missing{source}; put it at <data root>/{name}, where the data root is what "
        "--data or the variable MEDGAN_DATA names"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
