"""The release as MONAI's own runner takes it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import md5
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata

from medgan_core.errors import InputError, ReleaseError
from medgan_core.release import monai_run
from medgan_core.release.bundle import Release
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import CARD, build, rewrite
from tests.medgan_core.release.monai import run_bundle

MAPPER = {"task": "restoration", "data.image_size": 32, "mapping.width": 4, "evaluation.gate": False}
# The keys that MONAI's specification of bundles calls mandatory; its own schema is a download.
SCHEMA = {
    "type": "object",
    "required": [
        *("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
        *("task", "description", "authors", "copyright", "network_data_format"),
    ],
    "properties": {
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "additionalProperties": {
                "additionalProperties": {
                    "type": "object",
                    "required": [
                        *("type", "format", "modality", "num_channels", "spatial_shape", "dtype"),
                        *("value_range", "is_patch_data", "channel_def"),
                    ],
                }
            },
        }
    },
}


@pytest.fixture(scope="module")
def restoring(tmp_path_factory: pytest.TempPathFactory) -> Release:
    card = replace(CARD, image_shape=(1, 32, 32))
    return build(tmp_path_factory.mktemp("restoring") / "release", MAPPER, card)


def test_monai_draws_the_images_of_the_command_line(folder: Path) -> None:
    run_bundle(folder, number=5, seed=3)
    with np.load(folder.parent / "synthetic.npz") as drawn:
        images, labels = Release.open(folder).sample(5, 3)
        assert np.array_equal(drawn["images"], images)
        assert np.array_equal(drawn["labels"], labels)
    verify_release(folder)  # nothing was left in it


@pytest.mark.skipif(find_spec("fire") is None, reason="the package fire is not installed")
def test_monai_s_command_line(folder: Path) -> None:
    words = ["-m", "monai.bundle", "run", "--config_file", "configs/inference.json", "--number", "3"]
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder.parent / "synthetic.npz") as drawn:
        assert len(drawn["images"]) == 3


def test_a_tampered_release_does_not_run(folder: Path) -> None:
    with (folder / "card.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(RuntimeError) as caught:
        run_bundle(folder)
    assert str(caught.value.__cause__).startswith("card.json was changed")
    assert not (folder.parent / "synthetic.npz").exists()


def test_the_network_of_the_configuration(folder: Path, release: Release) -> None:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder)})
    network = parser.get_parsed_content("network_def")
    task = release.facts.make_task()
    latent, labels = torch.randn(2, task.latent_size), torch.tensor([0, 1])  # type: ignore[attr-defined]
    with torch.no_grad():
        assert torch.equal(network(latent, labels), release.generator()(latent, labels))


def test_a_generator_that_works_on_images(restoring: Release) -> None:
    given = restoring.folder.parent / "images.npz"
    images = np.zeros((3, 2, 32, 32), np.float32)
    np.savez(given, images=images)
    run_bundle(restoring.folder, input=str(given))
    with np.load(restoring.folder.parent / "synthetic.npz") as made, torch.no_grad():
        task = restoring.facts.make_task()
        expected = task.apply(restoring.generator(), torch.from_numpy(images))  # type: ignore[attr-defined]
        assert np.allclose(made["images"], expected.numpy(), atol=1e-6)


def test_a_generator_that_draws_takes_no_images(folder: Path) -> None:
    with pytest.raises(InputError, match="draws from noise"):
        monai_run.work_on(str(folder), "x", "y")


def test_monai_finds_the_metadata_valid(folder: Path, restoring: Release, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    digest = md5(schema.read_bytes()).hexdigest()
    for path in (folder, restoring.folder):
        verify_metadata(str(path / "configs" / "metadata.json"), filepath=str(schema), hash_val=digest)
    told = json.loads((folder / "configs" / "metadata.json").read_text())
    del told["authors"]
    (tmp_path / "bad.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(str(tmp_path / "bad.json"), filepath=str(schema), hash_val=digest)


@pytest.mark.parametrize("name", ["metadata.json", "inference.json"])
def test_a_configuration_of_somebody_else_is_named(folder: Path, name: str) -> None:
    rewrite(folder, f"configs/{name}", lambda body: body | {"run": ["$__import__('os').getcwd()"]})
    with pytest.raises(ReleaseError, match=f"^configs/{name}: not what is made of card.json; do not run it"):
        verify_release(folder)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("/etc")])
def test_folders_and_links_that_are_too_many(folder: Path, make: object) -> None:
    make(folder / "configs" / "more")  # type: ignore[operator]
    with pytest.raises(ReleaseError, match=r"^configs/more is extra"):
        verify_release(folder)


def test_the_folder_of_configurations_may_be_no_link(folder: Path) -> None:
    shutil.move(folder / "configs", folder.parent / "elsewhere")
    (folder / "configs").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(ReleaseError, match=r"^configs is extra"):
        verify_release(folder)


def test_a_release_of_an_earlier_format_still_opens(folder: Path) -> None:
    shutil.rmtree(folder / "configs")
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {name: entry for name, entry in manifest["files"].items() if not name.startswith("configs/")}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1, "files": files}))
    assert verify_release(folder).privacy == "dp"
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 2, "files": files}))
    with pytest.raises(ReleaseError, match=r"^manifest.json does not list configs/"):
        verify_release(folder)
