"""A checked release that somebody changed, hashes made anew or not: what was touched is named."""

import json
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from safetensors import numpy as safetensors

from medgan_core.errors import ReleaseError
from medgan_core.record import write_json
from medgan_core.release.bundle import Release
from medgan_core.release.card_text import markdown
from medgan_core.release.check.report import render
from medgan_core.release.files import MANIFEST, SIGNATURE, write_manifest
from medgan_core.release.monai_configs import configs
from medgan_core.release.ports import ports
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import Parties, rewrite

DICOM = "samples/0002.dcm"


def refused(folder: Path, parties: Parties | None = None) -> str:
    with pytest.raises(ReleaseError) as caught:
        verify_release(folder, parties.trust if parties else None)
    return str(caught.value)


def weights(folder: Path) -> None:
    path = folder / "generator.safetensors"
    arrays = {name: array.copy() for name, array in safetensors.load(path.read_bytes()).items()}
    arrays["last.bias"] += 0.5
    path.write_bytes(safetensors.save(arrays))


def card(folder: Path) -> None:
    path = folder / "card.json"
    path.write_text(path.read_text().replace('"verdict": "inconclusive"', '"verdict": "pass"'))


def receipt(folder: Path) -> None:
    path = folder / "receipts.json"
    body = json.loads(path.read_text())
    body[3]["spent"] = body[3]["spent"] / 2
    path.write_text(json.dumps(body))


def dicom(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / DICOM)
    pixels = dataset.pixel_array.copy()
    pixels[4:9, 4:9] += 700
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(folder / DICOM)


def manifest(folder: Path) -> None:
    body = json.loads((folder / MANIFEST).read_text())
    body["files"]["card.md"]["sha256"] = "00" * 32
    (folder / MANIFEST).write_text(json.dumps(body))


TOUCHED: dict[Callable[[Path], None], str] = {
    weights: "generator.safetensors",
    card: "card.json",
    receipt: "receipts.json: the receipt of south for round 1",
    dicom: DICOM,
}


@pytest.mark.parametrize("touch", TOUCHED)
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("hashed", [True, False])
def test_what_was_touched_is_named_also_when_the_manifest_is_made_anew(
    checked: Path, parties: Parties, touch: Callable[[Path], None], trusted: bool, hashed: bool
) -> None:
    verify_release(checked, parties.trust)
    touch(checked)
    if hashed:
        write_manifest(checked)
    expected = TOUCHED[touch] if hashed else TOUCHED[touch].split(":")[0]
    assert refused(checked, parties if trusted else None).startswith(expected)


def test_a_manifest_is_named_by_what_it_is_not(checked: Path, parties: Parties) -> None:
    manifest(checked)
    assert refused(checked, parties).startswith(
        "card.md was changed: its SHA-256 is not that of the manifest"
    )


def test_a_manifest_of_another_day_does_not_fit_its_samples(checked: Path, parties: Parties) -> None:
    body = json.loads((checked / MANIFEST).read_text())
    (checked / MANIFEST).write_text(json.dumps(body | {"created": "2020-01-01T00:00:00+00:00"}))
    assert "samples/0000.dcm: InstanceCreationDate is not what this release writes" in refused(
        checked, parties
    )


def test_a_manifest_that_was_only_written_otherwise_is_not_what_was_signed(
    checked: Path, parties: Parties
) -> None:
    body = json.loads((checked / MANIFEST).read_text())
    (checked / MANIFEST).write_text(json.dumps(body))
    assert refused(checked, parties).startswith(f"{MANIFEST}: not what the coordinator signed")


def _everything_anew(folder: Path) -> None:
    """Words, configurations, report and hashes that fit a changed card, as a careful forger makes them."""
    write_manifest(folder)
    release = Release.open(folder)
    (folder / "card.md").write_text(markdown(release.card))
    for name, body in configs(release.card, ports(release.facts.make_task())).items():
        write_json(folder / "configs" / name, body)
    if release.card.check is not None:
        (folder / "report.html").write_text(
            render(release.card, dict.fromkeys(("roc", "samples", "neighbours", "use", "spent"), b""))
        )
    write_manifest(folder)


def _check(**changes: Any) -> Callable[[Any], Any]:
    return lambda body: body | {"check": body["check"] | changes}


def _check_policy(**changes: Any) -> Callable[[Any], Any]:
    return lambda body: body | {"check": body["check"] | {"policy": body["check"]["policy"] | changes}}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_check(verdict="pass"), "card.json: its check says pass, its own figures give inconclusive"),
        (_check(twin={"nearest": 0.9}), ""),
        (_check(members=900.0), "card.json: members of its check are not"),
        (_check(rows=[]), "card.json: rows of its check are not"),
        (_check_policy(max_attack_auc=0.9), "card.json: the policy of its check cannot be: detectable_auc"),
        (_check_policy(max_epsilon=1.0), "card.json: its check says inconclusive, its own figures give fail"),
        (_check(subgroups=[]), "card.json: subgroups of its check"),
        (_check(samples=None), "card.json: its check does not tell what drawn images show"),
        (lambda body: body | {"check": None}, "report.html: it is of a release check, of which card.json"),
    ],
)
def test_a_verdict_that_does_not_follow_is_found_without_any_key(
    checked: Path, edit: Callable[[Any], Any], says: str
) -> None:
    rewrite(checked, "card.json", edit)
    _everything_anew(checked)
    (checked / SIGNATURE).unlink()
    if says:
        assert refused(checked).startswith(says)
    else:
        verify_release(checked)


def test_figures_of_drawn_images_are_drawn_again(checked: Path) -> None:
    def better(body: Any) -> Any:
        body["check"]["samples"]["difference"] = [0.3, 0.3]
        return body

    rewrite(checked, "card.json", better)
    _everything_anew(checked)
    assert refused(checked).startswith("card.json: difference of drawn images is (0.3, 0.3), drawn anew")


def test_other_words_in_the_report_are_found(checked: Path, parties: Parties) -> None:
    path = checked / "report.html"
    path.write_text(path.read_text().replace("INCONCLUSIVE", "PASS"))
    write_manifest(checked)
    assert refused(checked).startswith("report.html: its words are not those of card.json")
    path.write_bytes(b"\xff")
    write_manifest(checked)
    assert refused(checked, parties).startswith("report.html")


def test_another_pdf_is_not_what_was_signed(checked: Path, parties: Parties) -> None:
    (checked / "report.pdf").write_bytes(b"%PDF-1.4")
    write_manifest(checked)
    assert refused(checked, parties).startswith("report.pdf: not what the coordinator signed")


def test_samples_may_not_be_fewer_more_or_something_else(checked: Path) -> None:
    (checked / "samples" / "0004.dcm").write_bytes((checked / DICOM).read_bytes())
    assert refused(checked).startswith("samples/0004.dcm is extra")
    write_manifest(checked)
    assert refused(checked).startswith("samples/: 5 files, expected 4")
    (checked / "samples" / "0004.dcm").unlink()
    (checked / "samples" / "0000.dcm").write_bytes(b"no")
    write_manifest(checked)
    assert refused(checked).startswith("samples/0000.dcm is no DICOM file")
    (checked / "samples" / "note.txt").write_text("x")
    assert refused(checked).startswith("samples/note.txt is extra")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("SyntheticData", "NO"), ("PatientName", "Doe^John"), ("ImageComments", ""), ("StudyDate", "20200101")],
)
def test_a_header_that_says_something_else_is_named(checked: Path, keyword: str, value: str) -> None:
    dataset = pydicom.dcmread(checked / DICOM)
    setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    (checked / DICOM).write_bytes(stream.getvalue())
    write_manifest(checked)
    assert refused(checked).startswith(f"{DICOM}: {keyword} is not")


def test_one_grey_level_is_a_matter_of_machines(checked: Path) -> None:
    dataset = pydicom.dcmread(checked / DICOM)
    pixels = dataset.pixel_array.copy()
    pixels[0, 0] = pixels[0, 0] + 16 if pixels[0, 0] < 2000 else pixels[0, 0] - 16
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(checked / DICOM)
    write_manifest(checked)
    (checked / SIGNATURE).unlink()
    verify_release(checked)


def test_weights_with_all_hashes_made_anew_are_not_what_was_drawn(checked: Path) -> None:
    weights(checked)
    digest = sha256((checked / "generator.safetensors").read_bytes()).hexdigest()
    rewrite(checked, "generator.json", lambda body: body | {"sha256": digest})
    rewrite(checked, "card.json", lambda body: body | {"generator_sha256": digest})
    _everything_anew(checked)
    (checked / SIGNATURE).unlink()
    assert refused(checked).startswith("card.json: lowest of drawn images is")


def test_a_release_that_was_never_checked_says_so(folder: Path) -> None:
    lines = verify_release(folder).lines
    assert "card.json: not checked: no release check was made" in lines
