"""The hospitals of a simulation: where their data and ledgers are, and who declared what."""

from pathlib import Path
from typing import Any

import pytest

from medgan_core.config import parse_study
from medgan_core.data.source import Site
from medgan_core.errors import ConfigError, InputError, IntegrityError
from medgan_core.record import RunFolder
from simulations.hospitals import (
    Launch,
    data_root,
    keep_heads,
    open_ledger,
    open_sites,
    pooled,
    secret_random,
)
from tests.medgan_core.data.making import shared, write_csv, write_image
from tests.simulations.making import tiny_study


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", tiny_study())


def test_data_comes_from_the_option_else_the_variable_else_the_shared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDGAN_DATA", "/elsewhere")
    assert data_root(tmp_path) == tmp_path
    assert data_root(None) == Path("/elsewhere")
    monkeypatch.setenv("MEDGAN_DATA", "")
    assert data_root(None) == Path("../shared/data")


def test_a_data_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data nowhere: no such folder"):
        data_root(tmp_path / "nowhere")


def test_the_variable_is_used_where_a_launch_names_no_folder(
    run: RunFolder, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDGAN_DATA", str(data))
    assert len(open_sites(tiny_study(), run, Launch())) == 2


def test_no_patient_is_at_two_sites_or_on_both_sides_of_the_split(run: RunFolder, data: Path) -> None:
    sites = open_sites(tiny_study(), run, Launch(data=str(data)))
    parts = [
        patient for site in sites for part in (site.training, site.held_out) for patient in part.patients
    ]
    assert len(parts) == len(set(parts)) == 40


def test_only_the_person_who_starts_a_run_declares_unknown_data_public(run: RunFolder, data: Path) -> None:
    for declared in (False, True):
        sites = open_sites(tiny_study(), run, Launch(data=str(data), public=declared))
        assert {site.training.card.public for site in sites} == {declared}
        assert {site.held_out.card.public for site in sites} == {declared}


def test_phantoms_are_made_once_and_are_public(tmp_path: Path) -> None:
    changes = {"phantoms__patients": 30, "phantoms__pixels": 32, "sites__assign": "manifest"}
    study = tiny_study(
        data__kind="dicom", data__path="phantoms", data__patients="", data__classes=["normal", "opacity"],
        sites__count=3, **changes
    )  # fmt: skip
    run = RunFolder.create(tmp_path, study)
    sites = open_sites(study, run, Launch(data="/nowhere"))
    written = {path: path.stat().st_mtime_ns for path in (run.path / "data").rglob("*.dcm")}
    assert all(site.training.card.public for site in sites)
    open_sites(study, run, Launch())
    assert written == {path: path.stat().st_mtime_ns for path in (run.path / "data").rglob("*.dcm")}


@pytest.mark.parametrize(("assign", "count"), [("dirichlet", 1), ("manifest", 0)])
def test_a_column_of_sites_that_is_not_used_is_told_once(tmp_path: Path, assign: str, count: int) -> None:
    rows = [[f"{i}.png", f"p{i}", "ab"[i % 2], ["north", "south"][i % 2]] for i in range(40)]
    for i, row in enumerate(rows):
        write_image(tmp_path / "set" / row[0], seed=i)
    write_csv(tmp_path / "set" / "manifest.csv", [["file", "patient", "label", "site"], *rows])
    body = {"data": {"kind": "folder", "path": "set"}, "sites": {"count": 2, "assign": assign}}
    study = parse_study({"name": "x", **body})
    heard: list[str] = []
    open_sites(study, RunFolder.create(tmp_path, study), Launch(data=str(tmp_path)), heard.append)
    assert len(heard) == count
    assert all('sites.assign = "manifest" would take it' in line for line in heard)


def test_a_site_without_a_patient_to_hold_out_is_named(run: RunFolder, data: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"sites\.count = 12: expected fewer sites, or more patients: site-"
    ):
        open_sites(tiny_study(sites__count=12), run, Launch(data=str(data)))


def test_pooling_keeps_every_image_with_its_patient(run: RunFolder, data: Path) -> None:
    sites = open_sites(tiny_study(), run, Launch(data=str(data)))
    training, held_out = pooled(sites, sites[0].training.card)
    assert len(training) + len(held_out) == 40
    first = len(sites[0].training)
    second = sites[1].training
    assert training.patients[first:] == second.patients
    assert training.owner[-1] - first == second.owner[-1]
    assert training.images[-1].equal(second.images[-1])


def test_pooling_counts_a_patient_who_judges_everywhere_once(run: RunFolder, data: Path) -> None:
    sites = open_sites(tiny_study(), run, Launch(data=str(data)))
    shared = [Site(site.name, site.training, sites[0].held_out) for site in sites]
    _, held_out = pooled(shared, sites[0].training.card)
    assert held_out.patients == sites[0].held_out.patients
    assert held_out.images.equal(sites[0].held_out.images)


def test_ledgers_are_the_run_s_own_unless_runs_share_them(run: RunFolder, tmp_path: Path) -> None:
    study = tiny_study(privacy__delta=1e-6)
    own = open_ledger(study, run, Launch(), "site-1")
    common = open_ledger(study, run, Launch(ledgers=str(tmp_path / "ledgers")), "site-1")
    assert own.path == run.path / "sites" / "site-1" / "ledger.sqlite"
    assert common.path == tmp_path / "ledgers" / "site-1" / "ledger.sqlite"
    assert (own.policy.epsilon_cap, own.policy.delta) == (20.0, 1e-6)
    own.disconnect()
    common.disconnect()


def test_heads_lie_with_the_run_or_beside_the_runs_that_share_ledgers(run: RunFolder, tmp_path: Path) -> None:
    for launch, folder in ((Launch(), run.path), (Launch(ledgers=str(tmp_path / "l")), run.path.parent)):
        with open_ledger(tiny_study(), run, launch, "site-1") as ledger:
            keep_heads(run, launch, [ledger])
            head = ledger.witness().head
        heads = folder / "ledger-heads.json"
        assert head in heads.read_text()
        assert str(tmp_path) not in heads.read_text()


def test_damaged_heads_are_named(run: RunFolder) -> None:
    for body in ("{", "[]", '{"site-1": {"colour": 1}}'):
        (run.path / "ledger-heads.json").write_text(body)
        with pytest.raises(IntegrityError, match=r"ledger-heads\.json"):
            open_ledger(tiny_study(), run, Launch(), "site-1")


def test_the_secret_source_is_never_a_seeded_one() -> None:
    first, second = secret_random("site-1", 0).normal(8), secret_random("site-1", 0).normal(8)
    assert not first.equal(second)


@pytest.mark.parametrize("path", ["../elsewhere", "/elsewhere"])
def test_a_study_cannot_pass_other_images_off_as_phantoms(tmp_path: Path, path: str) -> None:
    study = tiny_study(data__kind="dicom", data__path=path, data__patients="", phantoms__patients=30)
    run = RunFolder.create(tmp_path, study)
    with pytest.raises(ConfigError, match="a folder below the run's own data"):
        open_sites(study, run, Launch(data=str(tmp_path)))


def test_a_private_run_on_a_published_set_of_five_patients_is_refused(tmp_path: Path) -> None:
    root = shared("open_ms_mri")
    asked: dict[str, Any] = {
        "name": "x",
        "task": "translation",
        "data": {"kind": "nifti", "path": "open_ms_mri", "modalities": ["T1", "FLAIR"], "image_size": 32},
    }
    private, plain = parse_study(asked), parse_study(asked | {"privacy": {"mode": "off"}})
    run, launch = RunFolder.create(tmp_path / "runs", private), Launch(data=str(root))
    with pytest.raises(ConfigError, match=r"which has 5 patients.*100 or more") as caught:
        open_sites(private, run, launch)
    assert caught.value.name == "privacy.mode"
    with pytest.raises(ConfigError) as other:  # for another reason: too few are held out
        open_sites(plain, run, launch)
    assert other.value.name == "sites.count"
