"""Hospitals with folders, policies and trainers of their own do what the simulation does."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from client.folder import SiteFolder
from client.founding import found_site
from client.reasons import reason_for_coordinator
from client.trainer import Trainer
from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.envelope import (
    answer_from_envelope,
    answer_to_envelope,
    asked_from_envelope,
    asked_to_envelope,
)
from medgan_core.errors import MedGANError
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Request, StageReply, Update
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.proposals import Proposal, Standing
from medgan_core.public_card import PublicCard
from medgan_core.record import RunFolder
from server.exchange import Answer, Refusal
from server.rounds import federate
from server.state import FederationState, initial_state
from simulations.course import run_study
from simulations.federation import site_toml
from simulations.folders import write_phantoms, write_site
from simulations.hospitals import Launch, open_sites
from tests.simulations.making import Seeded, tiny_study, write_set

UNATTENDED = "approval = false\n"


def opened(folder: Path, study: Study, card: Card | None, data: Path) -> Trainer:
    site = SiteFolder(folder)
    found_site(site, folder.name)
    data.rename(folder / "data")
    site.site_file.write_text(site_toml(folder.name, "1", study, card) + UNATTENDED)
    return Trainer.open(site, random_for=Seeded(7))


def ask(trainer: Trainer, asked: Request | Proposal) -> Update | StageReply | Standing:
    """Through envelopes, as over a socket."""
    answer = trainer.handle(asked_from_envelope(asked_to_envelope(asked)))
    back = answer_from_envelope(answer_to_envelope(answer))
    assert not isinstance(back, tuple)
    return back


def rounds(study: Study, run: str, trainers: list[Trainer], card: Card) -> FederationState:
    keys = {t.site: PublicCard.read(t.folder.public_card).verify_key for t in trainers}
    for trainer in trainers:
        standing = ask(trainer, Proposal(run, study.to_dict(), keys))
        assert isinstance(standing, Standing)
        assert standing.approved, standing.reason

    def exchange(request: Request) -> Iterator[Answer]:
        for trainer in trainers:
            try:
                answer = ask(trainer, request)
            except MedGANError as error:
                yield Refusal(trainer.site, f"{reason_for_coordinator(error)}: {error}")
                continue
            assert not isinstance(answer, Standing)
            yield answer

    task = make_task(study, card.image_shape, study.data.classes)
    state = initial_state(study, task, run, [trainer.site for trainer in trainers])
    plan = PrivacyPlan.of(study, card.unit)
    return federate(study, task, plan, state, exchange, keep=lambda state: None)


def test_deployed_hospitals_end_in_the_weights_of_the_simulation(tmp_path: Path) -> None:
    launch = Launch(data=str(write_set(tmp_path / "data", patients=60)))
    study = tiny_study(rounds=2, evaluation__epsilon=4.0)
    simulated = run_study(study, tmp_path, launch, random_for=Seeded(7))
    expected = simulated.latest_state()
    assert expected is not None
    sites = open_sites(study, simulated, launch)
    card = sites[0].training.card
    with ExitStack() as stack:
        trainers = [
            stack.enter_context(
                opened(tmp_path / site.name, study, card, write_site(site, tmp_path / f"{site.name}-data"))
            )
            for site in sites
        ]
        deployed = rounds(simulated.study(), simulated.name, trainers, card)
    for group in ("generator", "discriminator", "average", "release", "statistics"):
        assert deployed.groups[group].keys() == expected[0][group].keys()
        for name, array in expected[0][group].items():
            assert np.array_equal(deployed.groups[group][name], array), f"{group}/{name}"


def test_each_hospital_has_its_own_phantoms_with_a_manifest(tmp_path: Path) -> None:
    study = tiny_study(
        data__kind="dicom",
        data__path="phantoms",
        data__patients="",
        data__classes=["normal", "opacity"],
        sites__assign="manifest",
        phantoms__patients=30,
        phantoms__pixels=32,
    )
    made = write_phantoms(study, tmp_path / "drawn", ["site-1", "site-2"])
    simulated = open_sites(study, RunFolder(tmp_path / "run"), Launch())
    for site in simulated:
        rows = (made[site.name] / "manifest.csv").read_text().splitlines()
        assert rows[0] == "file,patient,label"
        owners = {row.split(",")[1] for row in rows[1:]}
        assert owners == {*site.training.patients, *site.held_out.patients}
        assert all((made[site.name] / row.split(",")[0]).is_file() for row in rows[1:])
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"site-1", "site-2"}
