import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan_core.errors import InputError, MedGANError, RefusedError, ReleaseError
from medgan_core.messages import Event, Phase, Receipt
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release import bundle
from medgan_core.release.bundle import Release, build_release
from medgan_core.release.files import FILES, MANIFEST
from tests.medgan_core.release.making import CARD, build, receipts_of, rewrite, study_with, weights

Receipts = list[Receipt]


def test_a_release_holds_these_files_and_their_hashes(folder: Path) -> None:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {MANIFEST, *FILES}
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["format"] == 2
    assert manifest["created"]
    for name in FILES:
        body = (folder / name).read_bytes()
        assert manifest["files"][name] == {"sha256": sha256(body).hexdigest(), "bytes": len(body)}


def test_generator_json_rebuilds_the_generator(folder: Path) -> None:
    facts = json.loads((folder / "generator.json").read_text())
    assert facts["training"] == {
        "loss": "non_saturating",
        "latent_size": 4,
        "generator_width": 4,
        "discriminator_width": 4,
        "spatial_noise": 0.1,
    }
    assert facts["sha256"] == sha256((folder / "generator.safetensors").read_bytes()).hexdigest()
    opened = Release.open(str(folder))
    generator = opened.generator()
    assert not generator.training
    expected = weights(study_with())
    assert {name: tensor.shape for name, tensor in generator.state_dict().items()} == {
        name: torch.Size(array.shape) for name, array in expected.items()
    }
    for name, tensor in generator.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), expected[name])


def test_the_study_is_kept_without_the_folders_of_the_machine(folder: Path) -> None:
    assert "alice" not in (folder / "study.toml").read_text()
    opened = Release.open(folder)
    assert opened.study.data.path == "tiny.npz"
    assert opened.study.training == study_with().training
    assert [receipt.to_json() for receipt in opened.receipts] == json.loads(
        (folder / "receipts.json").read_text()
    )


def _no_receipts(receipts: Receipts) -> Receipts:
    return []


def _without(number: int) -> object:
    return lambda receipts: [receipt for receipt in receipts if receipt.round != number]


def _first(**changes: object) -> object:
    return lambda receipts: [replace(receipts[0], **changes), *receipts[1:]]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_no_receipts, "no receipts"),
        (_without(0), "round 0 has receipts of 0 sites"),
        (_without(1), "round 1 has receipts of 0 sites"),
        (_without(2), "round 2 has receipts of 0 sites"),
        (_without(3), "round 3 has receipts of 0 sites"),
        (lambda receipts: receipts[:-1], "round 3 has receipts of 1 sites, needed are 2"),
        (lambda receipts: [*receipts, receipts[-1]], "another receipt"),
        (_first(event=Event(2.0, 1.0, 2)), "north for round 0 charged"),
        (_first(event=Event(0.0, 1.0, 1)), "the plan has"),
        (_first(phase=Phase.TRAIN), "is for train"),
        (_first(round=4), "no such round"),
        (_first(round=-1), "no such round"),
        (_first(account="held_out"), "charged account held_out"),
        (_first(run="other"), "several runs"),
        (_first(update_digest=""), "is open"),
        (_first(spent=float("nan")), "epsilon nan"),
        (_first(delta=0.0), "delta 0.0"),
    ],
)
def test_a_release_that_nobody_accounted_for_cannot_be_built(tmp_path: Path, edit, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RefusedError, match=says):
        build(tmp_path / "release", edit=edit)
    assert not list(tmp_path.iterdir())


def test_the_constructor_demands_receipts(release: Release) -> None:
    with pytest.raises(RefusedError, match="no receipts"):
        replace(release, receipts=())


def test_the_one_shot_alone_is_legal(tmp_path: Path) -> None:
    made = build(tmp_path / "release", {"rounds": 0})
    assert {receipt.phase for receipt in made.receipts} == {Phase.ONE_SHOT, Phase.EVALUATE}
    assert made.card.sites[0].training_rounds == 0


def test_counters_that_travelled_as_one_element_fit(tmp_path: Path) -> None:
    study = study_with()
    plan = PrivacyPlan.of(study, "patient")
    arrays = {name: np.ascontiguousarray(array) for name, array in weights(study).items()}
    assert arrays["first_norm.num_batches_tracked"].shape == (1,)
    made = build_release(tmp_path / "r", study, CARD, plan, arrays, receipts_of(plan))
    assert made.weights["first_norm.num_batches_tracked"].shape == ()
    assert made.card.proportions == ()


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("last.bias", np.array([np.nan], np.float32), "last.bias is not finite"),
        ("last.bias", np.zeros(3, np.float32), "last.bias is float32 .3."),
        ("last.bias", np.zeros(1, np.float64), "last.bias is float64"),
        ("other", np.zeros(1, np.float32), "other is extra"),
        ("last.bias", None, "last.bias is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, array: np.ndarray | None, says: str
) -> None:
    study = study_with()
    plan = PrivacyPlan.of(study, "patient")
    arrays = weights(study) | {name: array}
    wrong = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ReleaseError, match=f"generator.safetensors: tensor {says}"):
        build_release(tmp_path / "r", study, CARD, plan, wrong, receipts_of(plan))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shares", [(0.3,), (-0.1, 1.1), (0.0, 0.0), (float("nan"), 1.0)])
def test_proportions_are_checked(tmp_path: Path, shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="proportions"):
        build(tmp_path / "release", proportions=shares)


def test_an_earlier_release_is_replaced_and_nothing_else(tmp_path: Path, folder: Path) -> None:
    made = build(folder, proportions=(1.0, 3.0))
    assert made.card.proportions == (0.25, 0.75)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.txt").write_text("sea")
    (tmp_path / "file").write_text("x")
    for name in ("holiday", "file"):
        with pytest.raises(InputError, match="is no release"):
            build(tmp_path / name)
    assert (tmp_path / "holiday" / "photo.txt").read_text() == "sea"
    (tmp_path / "empty").mkdir()
    assert build(tmp_path / "empty").folder == tmp_path / "empty"


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_the_earlier_release(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _contents(folder)

    def full(part: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "write_manifest", full)
    with pytest.raises(MedGANError, match="No space left"):
        build(folder)
    assert _contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["release"]


def test_samples_are_bytes_of_the_right_shape(release: Release) -> None:
    images, labels = release.sample(10, 1)
    assert images.dtype == np.uint8
    assert images.shape == (10, 28, 28)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0] * 3 + [1] * 7
    assert images.std() > 0


@pytest.mark.parametrize(("first", "count"), [(0, 3), (3, 5), (62, 4), (64, 1), (70, 70)])
def test_images_can_be_drawn_from_any_number_on(release: Release, first: int, count: int) -> None:
    labels = np.arange(140) % 2
    images, _ = release.sample(labels, 3)
    part, drawn = release.sample(labels[first : first + count], 3, first)
    np.testing.assert_array_equal(part, images[first : first + count])
    assert drawn.tolist() == labels[first : first + count].tolist()
    with pytest.raises(InputError, match="first image -1"):
        release.sample(1, 3, -1)


def test_colour_samples_have_their_channels_last(tmp_path: Path) -> None:
    card = replace(CARD, image_shape=(3, 32, 32))
    made = build(tmp_path / "release", {"data.image_size": 32, "data.channels": 3}, card, proportions=())
    images, labels = made.sample(5)
    assert images.shape == (5, 32, 32, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1]


def test_the_same_seed_gives_the_same_bytes_however_many_are_drawn(release: Release) -> None:
    labels = torch.tensor([0, 1] * 50)
    images, given = release.sample(labels, 5)
    again, _ = release.sample(labels, 5)
    fewer, _ = release.sample(labels[:70], 5)
    other, _ = release.sample(labels, 6)
    assert given.tolist() == labels.tolist()
    assert images.tobytes() == again.tobytes()
    assert images[:70].tobytes() == fewer.tobytes()
    assert images.tobytes() != other.tobytes()


def test_labels_may_be_counts(release: Release) -> None:
    assert release.sample({"pneumonia": 2, "normal": 1})[1].tolist() == [0, 1, 1]
    assert release.labels(np.int64(2)).tolist() == [0, 1]


@pytest.mark.parametrize(
    "wanted",
    [0, -3, {"cat": 2}, np.array([0.5]), torch.zeros(0, dtype=torch.int64), np.array([2]), np.array([-1])],
)
def test_what_cannot_be_drawn_is_bad_input(release: Release, wanted: object) -> None:
    with pytest.raises(InputError):
        release.labels(wanted)  # type: ignore[arg-type]


def test_images_that_do_not_fit_into_memory(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", none)
    with pytest.raises(InputError, match="fewer at a time"):
        release.sample(4)


def test_a_generator_that_overflows_is_named(release: Release) -> None:
    huge = {n: np.full_like(a, 3e38) if a.dtype == np.float32 else a for n, a in release.weights.items()}
    with pytest.raises(ReleaseError, match="not finite"):
        replace(release, weights=huge).sample(2)


@pytest.mark.parametrize("name", FILES)
def test_opening_names_a_file_that_is_missing_or_changed(folder: Path, name: str) -> None:
    body = (folder / name).read_bytes()
    (folder / name).write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(ReleaseError, match=f"^{name} was changed"):
        Release.open(folder)
    (folder / name).write_bytes(body + b" ")
    with pytest.raises(ReleaseError, match=f"^{name} was changed"):
        Release.open(folder)
    (folder / name).unlink()
    with pytest.raises(ReleaseError, match=f"^{name} is missing"):
        Release.open(folder)
    (folder / name).symlink_to("/etc/hostname")
    with pytest.raises(ReleaseError, match=f"^{name} is missing"):
        Release.open(folder)


def test_what_is_no_release_is_bad_input(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere", folder / "card.md", tmp_path / "empty"):
        with pytest.raises(InputError, match="RELEASE"):
            Release.open(path)
    with pytest.raises(InputError, match="did you mean its folder release"):
        Release.open(tmp_path)


def test_receipts_that_do_not_cover_the_plan_fail_on_opening(folder: Path) -> None:
    rewrite(folder, "receipts.json", lambda receipts: receipts[:-2])
    with pytest.raises(ReleaseError, match=r"^receipts.json: round 3"):
        Release.open(folder)
