"""The published sets by name: where they come from, their licence, and the digests of the files that we read.

A set is public only where its files are the published ones, byte for byte: nothing that a study says can
declare images public.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from medgan_core.errors import DataError


@dataclass(frozen=True)
class PublishedSet:
    """A set that its authors published.

    `name` is its folder below the data root, `address` the official archive, `files` the sha256 of each
    file that we read, by its path inside of the folder. `more` are such files of what not every study
    asks for, masks for example: a set is the published one without them.
    """

    name: str
    title: str
    address: str
    licence: str
    files: Mapping[str, str]
    more: Mapping[str, str] = field(default_factory=dict)

    def holds(self, folder: Path, read: Iterable[Path]) -> bool:
        """Whether all files that were read are of this set, whose `files` lie in this folder."""
        known = {folder / name for name in self.files}
        more = {folder / name: digest for name, digest in self.more.items()}
        return all(path in known or (path in more and _sha256(path) == more[path]) for path in set(read))


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
            more=MappingProxyType(
                {
                    "lung_masks_224.zip": "89ce9f9bacfeaa048da000e6fc917dcc35e4a601c5afa279498ab1af30e4da07",
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
        "open_ms_mri": PublishedSet(
            name="open_ms_mri",
            title="MR of five patients with multiple sclerosis (Lesjak et al. 2016, 2017)",
            address="https://github.com/muschellij2/open_ms_data",
            licence="CC BY",
            files=MappingProxyType(
                {
                    "cross_sectional_MNI/patient07_FLAIR.nii.gz": (
                        "4d0c1ea99dcc7f7b10d71bc6a55921951dfda5d01639ff261d01f8da54b16868"
                    ),
                    "cross_sectional_MNI/patient07_LESION.nii.gz": (
                        "d7ea2b602a4141032c37d2c9204399af878b930d49c4d180c8247bf0cc5477fb"
                    ),
                    "cross_sectional_MNI/patient07_T1.nii.gz": (
                        "36ac205d4c6a21b99f922c87f463253cb7dfd4fe45a3dca48cf694bb5410d024"
                    ),
                    "cross_sectional_MNI/patient07_T1POST.nii.gz": (
                        "1a6950c848fe57134356e86da2466768986d7794a264d257903d3f0e88406474"
                    ),
                    "cross_sectional_MNI/patient07_T2.nii.gz": (
                        "d211deedf5466b03ac524008c1958b52a09ce0eae71634389afada0debd7d0ee"
                    ),
                    "cross_sectional_MNI/patient19_FLAIR.nii.gz": (
                        "f81a611b77eb0e07156c91fa0e51117cea8ee7bea1e032bd11bd1cfa79aa1326"
                    ),
                    "cross_sectional_MNI/patient19_LESION.nii.gz": (
                        "7b0d214d67d771fd2700404adac88e353f8a919078adfe506e5a9edb6bc8a40a"
                    ),
                    "cross_sectional_MNI/patient19_T1.nii.gz": (
                        "fd11e1b93c6d332f5e53de0ee83041e89a2ded682e8ea8ee03c86ca672909d57"
                    ),
                    "cross_sectional_MNI/patient19_T1POST.nii.gz": (
                        "a9a34d3ac068a36a89e00287db8e5bb146797b615692403154d99703814991dc"
                    ),
                    "cross_sectional_MNI/patient19_T2.nii.gz": (
                        "dee46d54c978f79c097589c87d76d3175edf1af6a8d97349d28603ad01eb8bb3"
                    ),
                    "longitudinal_raw_resampled/patient01_study1_FLAIR.nii.gz": (
                        "3313bbc4befbd8ac1a6102204e6fcf94911c746ddd45a54bb575910ef2c1f72d"
                    ),
                    "longitudinal_raw_resampled/patient01_study1_T1W.nii.gz": (
                        "e5a6afe14501b1b19e650160a66758957b34b9aaaed075ab7bf0e08bb6689fd5"
                    ),
                    "longitudinal_raw_resampled/patient01_study1_T2W.nii.gz": (
                        "4c2fd292be8fd9f644d8dcf49ea7b986d9dc23be834881b7761221ac9b7c9fe9"
                    ),
                    "longitudinal_raw_resampled/patient01_study2_FLAIR.nii.gz": (
                        "57921d4e0c067d05f97b9bb2f58b7684fd377c852920fb8a5a003d419c9ab4a2"
                    ),
                    "longitudinal_raw_resampled/patient01_study2_T1W.nii.gz": (
                        "7c11ab396cbd49627c540074cd733edd8e0f2a21428608094103771820ac8e47"
                    ),
                    "longitudinal_raw_resampled/patient01_study2_T2W.nii.gz": (
                        "52070c7d4e5453eecbfa976623ebe91203b33723db887e2e6fa4fd75714bc5de"
                    ),
                    "longitudinal_raw_resampled/patient03_study2_FLAIR.nii.gz": (
                        "4a6610e9c29f8993d2e119915eb85511d4c7ad12e10d65b22b2675ec0725b828"
                    ),
                    "longitudinal_raw_resampled/patient03_study2_T1W.nii.gz": (
                        "bb41c5964dc130582dcc3e149fd3dc6d16952ea624e79de6d0ff21404355870f"
                    ),
                    "longitudinal_raw_resampled/patient03_study2_T2W.nii.gz": (
                        "dc2151b9222c6b6e42eb9a067913dcd10297b79d577126b71a0422682f6063ef"
                    ),
                    "longitudinal_raw_resampled/patient04_study1_FLAIR.nii.gz": (
                        "fe663cb44b51afab2d79a65b780f044815742fc124f60179af796a41ac88a977"
                    ),
                    "longitudinal_raw_resampled/patient04_study1_T1W.nii.gz": (
                        "bf80e2cdf82a06d536d89b6f1b83630e69689772f1688b8c8c84b0fcdcdcd47f"
                    ),
                    "longitudinal_raw_resampled/patient04_study1_T2W.nii.gz": (
                        "7d622a9c000a386c216333f5461a7837f66b23ae46c5f8b4c86c60812b3f66d0"
                    ),
                }
            ),
        ),
        "dicom_samples": PublishedSet(
            name="dicom_samples",
            title="CT of a head (dcm_qa_ct, Aliza Medical Imaging)",
            address="https://github.com/neurolabusc/dcm_qa_ct",
            licence="BSD-2-Clause",
            files=MappingProxyType(
                {"ct_head_ge.zip": "c9d814e80bf23d2c68882c2edb45dfee856e7fd034f63df4a56e2c0a02dbac48"}
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
