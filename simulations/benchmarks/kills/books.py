"""What the hospitals' ledgers say after a federation, and what they say after one without kills."""

from pathlib import Path
from typing import Any

from client.books import open_ledger
from client.folder import SiteFolder
from medgan_core.config import Study
from medgan_core.messages import Event
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import make_folder, read_json
from simulations.course import run_study
from simulations.federation import Stage

Charges = tuple[tuple[int, str, Event], ...]
"""Round, phase and event of each charge of a run, in the order of the rounds."""


def charges_of(site: Path, run: str) -> Charges:
    """What a hospital's ledger has charged for a run; its chain is checked."""
    folder = SiteFolder.open(site)
    with open_ledger(folder, folder.config()) as ledger:
        receipts = [entry.body["receipt"] for entry in ledger.entries() if entry.kind == "charge"]
    found = [(one["round"], one["phase"], Event(**one["event"])) for one in receipts if one["run"] == run]
    return tuple(sorted(found, key=lambda charge: charge[0]))


def expected_charges(study: Study) -> Charges:
    """What the plan of a study charges at every hospital: each round once."""
    plan = PrivacyPlan.of(study, "patient")
    phases = [(number, plan.phase(number)) for number in range(study.first_round, study.last_round + 1)]
    return tuple((number, str(phase), plan.event(phase)) for number, phase in phases if phase is not None)


def doubled(charges: Charges, number: int) -> int:
    """How many charges of a round are one too many."""
    return max(0, sum(charge[0] == number for charge in charges) - 1)


def spent_by_site(stage: Stage) -> dict[str, list[Any]]:
    """ε of each account, by the hospitals' own ledgers."""
    found = {}
    for name in stage.names:
        folder = SiteFolder.open(stage.site(name))
        with open_ledger(folder, folder.config()) as ledger:
            found[name] = _spent(ledger.export())
    return found


def undisturbed(study: Study, out: Path) -> dict[str, list[Any]]:
    """The same of a run of the same study in one process, which nobody disturbs."""
    make_folder(out / "undisturbed")
    run = run_study(study, out / "undisturbed")
    return {site: _spent(exported) for site, exported in read_json(run.path / "ledger.json").items()}


def _spent(exported: dict[str, Any]) -> list[Any]:
    return sorted(account["spent"] for account in exported["accounts"].values())
