"""A hospital's images become a study's: labels by its own table, patients divided by its own key."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.folder import SiteFolder
from client.hospital import Reading, card_of, held_out_by, read_site, withdrawn_patients
from client.policy import broken_by_data
from medgan_core.config import PhantomsConfig
from medgan_core.data.source import is_held_out
from medgan_core.errors import ConfigError, DataError, IntegrityError
from medgan_core.privacy.site_key import SiteKey
from medgan_core.seeds import Seeds
from simulations.phantoms import make_phantoms
from tests.client.sites import PATIENTS, configure, make_site, write_images
from tests.medgan_core.data.making import image_bytes, mask_bytes, write_csv, write_zip
from tests.server.making import tiny_study

KEY = SiteKey(b"k" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path / "site")


def read(folder: SiteFolder, key: SiteKey = KEY, **changes: Any) -> Reading:
    return read_site(folder, folder.config(), tiny_study(**changes), key.pseudonym)


def everybody(reading: Reading) -> set[str]:
    return set(reading.site.training.patients) | set(reading.site.held_out.patients)


def test_everybody_is_on_one_side_and_the_facts_count_them(folder: SiteFolder) -> None:
    reading = read(folder)
    site, facts = reading.site, reading.facts
    assert everybody(reading) == set(PATIENTS)
    assert not set(site.training.patients) & set(site.held_out.patients)
    assert (facts.patients, facts.held_out) == (len(site.training), len(site.held_out))
    assert facts.images == len(site.training.images) + len(site.held_out.images) == 160
    assert (facts.unit, facts.left_out, facts.missing) == ("patient", {}, ())
    assert site.training.images.shape[1:] == (1, 28, 28)


def test_the_split_is_keyed_by_the_ledger_unless_the_set_is_published(folder: SiteFolder) -> None:
    held = set(read(folder).site.held_out.patients)
    assert held == {name for name in PATIENTS if held_out_by(KEY.pseudonym, name)}
    assert held != set(read(folder, SiteKey(b"o" * 32)).site.held_out.patients)
    configure(folder, data__published=True)
    assert set(read(folder).site.held_out.patients) == {name for name in PATIENTS if is_held_out(name)}


def test_who_is_held_out_does_not_depend_on_the_others(folder: SiteFolder) -> None:
    before = set(read(folder).site.held_out.patients)
    write_images(folder.path, PATIENTS[::2])
    assert set(read(folder).site.held_out.patients) == before & set(PATIENTS[::2])


def test_local_labels_become_the_studys_classes_and_others_are_left_out(folder: SiteFolder) -> None:
    write_images(folder.path, labels=("o.B.", "Infiltrat", "unklar"))
    configure(folder, labels={"o.B.": "normal", "Infiltrat": "pneumonia", "Ödem": "oedema"})
    reading = read(folder)
    assert reading.facts.left_out == {"label 'unklar' is none of the study's classes": 53}
    assert reading.facts.images == 107
    assert set(reading.site.training.labels.tolist()) == {0, 1}


def test_with_a_table_of_labels_nothing_is_guessed(folder: SiteFolder) -> None:
    write_images(folder.path, labels=("normal", "1"))
    configure(folder, labels={"normal": "pneumonia"})
    reading = read(folder)
    assert set(reading.site.training.labels.tolist()) == {1}
    assert sum(reading.facts.left_out.values()) == 80


def test_numbers_are_named_by_the_site_or_by_the_study(folder: SiteFolder) -> None:
    write_images(folder.path, labels=("0", "1"))
    as_study = read(folder).site.training.labels
    configure(folder, data__classes='["pneumonia", "normal"]')
    assert (read(folder).site.training.labels == 1 - as_study).all()


def test_a_class_without_images_is_named_to_the_person(folder: SiteFolder) -> None:
    write_images(folder.path, labels=("normal",))
    assert read(folder).facts.missing == ("pneumonia",)


def test_a_set_without_any_image_of_the_study_is_refused(folder: SiteFolder) -> None:
    with pytest.raises(DataError, match="no image is left"):
        read(folder, data__classes=["a", "b"])


def test_images_without_patients_are_refused_unless_published_or_public(folder: SiteFolder) -> None:
    config = configure(folder, data__patients='""')
    facts = read(folder).facts
    assert facts.unit == "image"
    assert [rule.name for rule in broken_by_data(config, facts)] == ["patients"]
    for key in ("published", "public"):
        config = configure(folder, **{f"data__{key}": True})
        assert broken_by_data(config, facts) == ()
        configure(folder, **{f"data__{key}": False})


def test_a_row_whose_patient_is_blank_is_left_out(folder: SiteFolder) -> None:
    table = folder.path / "patients.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0] + ",x", '"",1', *(f"{line},1" for line in lines[2:])]) + "\n")
    reading = read(folder)
    assert reading.facts.left_out == {"without a patient": 1}
    assert all(name.startswith("Anna") for name in everybody(reading))


def test_a_withdrawn_patient_is_left_out(folder: SiteFolder) -> None:
    folder.withdrawn.write_text(f'["{KEY.pseudonym(PATIENTS[0])}"]')
    reading = read(folder)
    assert everybody(reading) == set(PATIENTS[1:])
    assert reading.facts.left_out == {"consent withdrawn": 2}


def test_a_damaged_list_of_withdrawals_forgets_nobody(folder: SiteFolder) -> None:
    for text in ("", "{}", "[1]", '["x"'):
        folder.withdrawn.write_text(text)
        with pytest.raises(IntegrityError):
            withdrawn_patients(folder)


def test_the_card_tells_declared_facts_alone(folder: SiteFolder) -> None:
    reading = read(folder)
    assert reading.site.training.card == card_of(folder.config(), tiny_study())
    assert reading.site.training.card.name == "tiny"
    assert not reading.site.training.card.public


@pytest.mark.parametrize("spoil", ["missing", "damaged", "table"])
def test_what_cannot_be_read_is_named_without_its_folder(folder: SiteFolder, spoil: str) -> None:
    path = folder.path / ("patients.csv" if spoil == "table" else "images.npz")
    path.unlink()
    if spoil == "damaged":
        path.write_bytes(b"no archive")
    with pytest.raises(DataError, match=path.stem) as caught:
        read(folder)
    assert str(folder.path) not in str(caught.value)


def test_phantoms_are_read_as_a_hospitals_dicom_files(tmp_path: Path) -> None:
    folder = make_site(tmp_path / "site")
    make_phantoms(folder.path / "data", PhantomsConfig(patients=12, max_images=2, pixels=32), 2, Seeds(0))
    configure(folder, data__kind='"dicom"', data__path='"data"', data__patients='""', data__site='"site-2"')
    configure(folder, data__text_check="false")
    reading = read(folder, data__classes=["normal", "opacity"], data__image_size=28)
    assert everybody(reading) == {KEY.pseudonym(f"phantom-2-{i:04d}") for i in range(1, 13)}
    assert reading.report is not None
    assert reading.report.read == reading.report.files
    assert b"phantom" not in b"".join(path.read_bytes() for path in folder.cache.iterdir())
    assert set(reading.facts.left_out) == {"of another site"}
    assert reading.facts.unit == "patient"


def test_a_site_of_a_manifest_that_has_none_is_a_mistake(folder: SiteFolder) -> None:
    configure(folder, data__site='"site-2"')
    with pytest.raises(ConfigError, match=r"data\.site"):
        read(folder)


def test_images_are_in_the_order_of_the_files(folder: SiteFolder) -> None:
    reading = read(folder)
    raw = np.load(folder.path / "images.npz")["images"]
    owners = (folder.path / "patients.csv").read_text().splitlines()[1:]
    data = reading.site.training
    rows = [i for i, name in enumerate(owners) if name in data.patients]
    assert data.images.shape[0] == len(rows)
    assert [data.patients[i] for i in data.owner.tolist()] == [owners[i] for i in rows]
    assert np.allclose(data.images[:, 0].numpy(), raw[rows] / 127.5 - 1, atol=1e-5)


def test_a_site_says_where_its_masks_are_and_hears_of_images_without_one(folder: SiteFolder) -> None:
    (folder.path / "xrays").mkdir()
    write_zip(folder.path / "xrays" / "i.zip", {f"{i}.png": image_bytes(seed=i) for i in range(40)})
    write_zip(folder.path / "xrays" / "drawn.zip", {f"m/{i}.png": mask_bytes() for i in range(30)})
    rows = [[f"{i}.png", f"p{i}", "normal"] for i in range(40)]
    write_csv(folder.path / "xrays" / "t.csv", [["file", "patient", "label"], *rows])
    own = {"kind": "folder", "path": "xrays", "patients": "t.csv", "masks": "drawn.zip"}
    configure(folder, **{f"data__{key}": f'"{value}"' for key, value in own.items()})
    asked: dict[str, Any] = {"data__kind": "folder", "data__masks": "lung_masks_224.zip"}
    reading = read(folder, **asked)
    assert reading.facts.images == 30
    assert reading.facts.left_out == {"no mask in xrays/drawn.zip": 10}
    assert reading.site.training.images.shape[1:] == reading.site.training.card.image_shape == (2, 28, 28)
    assert reading.site.training.card.channels == ("image", "mask")
    write_zip(folder.path / "xrays" / "drawn.zip", {})
    with pytest.raises(DataError, match=r"no image has a mask in xrays/drawn.zip"):
        read(folder, **asked)


def test_a_study_of_masks_is_refused_where_a_site_has_another_kind_of_files(folder: SiteFolder) -> None:
    with pytest.raises(ConfigError, match=r"data.masks of the study, read here as npz = 'm.zip': expected"):
        read(folder, data__kind="folder", data__masks="m.zip")


def test_only_a_published_set_s_patients_are_named_by_a_study(folder: SiteFolder) -> None:
    with pytest.raises(ConfigError, match=r"data.hold_out = .*: this site's set is not a published one"):
        read(folder, data__hold_out=[PATIENTS[3]])
    configure(folder, data__published=True)
    assert read(folder, data__hold_out=[PATIENTS[3]]).site.held_out.patients == (PATIENTS[3],)
