"""How the tests make a release."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medgan_core.codec import flatten, unflatten
from medgan_core.config import Study, parse_study
from medgan_core.data.source import Card
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Array, Receipt
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_keys import new_secret, sign, verify_key_of
from medgan_core.release.bundle import Release, build_release
from medgan_core.release.files import write_manifest
from medgan_core.release.trust import Trust, TrustedKey
from medgan_core.tensors import seeded, state_of

CARD = Card(
    name="PneumoniaMNIST",
    classes=("normal", "pneumonia"),
    image_shape=(1, 28, 28),
    modality="DX",
    unit="patient",
    public=True,
    source="https://medmnist.com",
    licence="CC BY 4.0",
)
STUDY = {
    "name": "tiny",
    "strategy": "refine",
    "rounds": 1,
    "data": {"kind": "npz", "path": "/home/alice/tiny.npz", "classes": ["normal", "pneumonia"]},
    "sites": {"count": 2},
    "privacy": {"noise_multiplier": 2.0, "one_shot_noise_multiplier": 2.0},
    "training": {
        "latent_size": 4,
        "generator_width": 4,
        "discriminator_width": 4,
        "discriminator_steps": 3,
    },
    "evaluation": {"attack": False},
}
GATE = {
    "kept": "refined",
    "gain": 0.012,
    "low": -0.02,
    "high": 0.044,
    "noise": 0.011,
    "error_rate": 0.138,
    "resolved": 0.018,
    "patients": 270.0,
}
METRICS = {"gate": GATE, "accuracy": 0.81, "auc": float("nan"), "public": {"frechet": 1.5}}


NEEDED: dict[str, dict[str, Any]] = {
    "segmentation": {"data.kind": "folder", "data.masks": "masks.zip"},
    "translation": {"data.kind": "nifti", "data.modalities": ["T1", "FLAIR"], "data.classes": ["brain"]},
}
"""What a study of a task says of its data."""


def study_with(changes: Mapping[str, Any] | None = None) -> Study:
    asked = dict(changes or {})
    return parse_study(unflatten(flatten(STUDY) | NEEDED.get(asked.get("task", ""), {}) | asked))


def receipts_of(plan: PrivacyPlan, sites: tuple[str, ...] = ("north", "south")) -> list[Receipt]:
    """The sealed receipts of a whole run."""
    numbers = range(plan.first_round, plan.last_round + 1)
    phases = {number: phase for number in numbers if (phase := plan.phase(number)) is not None}
    spent = {name: epsilon(plan.events(name), plan.delta) for name in ("training", "held_out")}
    return [
        Receipt(
            site=site,
            ledger=f"ledger-{site}",
            run="tiny-run",
            round=number,
            phase=phase,
            request_digest="ab" * 32,
            account=plan.account(phase),
            event=plan.event(phase),
            spent=spent[plan.account(phase)],
            delta=plan.delta,
            sequence=3 + number,
            head="cd" * 32,
            update_digest="ef" * 32,
        )
        for number, phase in phases.items()
        for site in sites
    ]


def weights(study: Study, card: Card = CARD) -> dict[str, Array]:
    return state_of(seeded(make_task(study, card.image_shape, card.classes).make_generator, 7))


def build(
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    card: Card = CARD,
    edit: Callable[[list[Receipt]], list[Receipt]] = lambda receipts: receipts,
    proportions: tuple[float, ...] = (0.3, 0.7),
    verify_keys: Mapping[str, str] | None = None,
    of_weights: Callable[[Array], Array] = lambda array: array,
    signing_key: bytes | None = None,
    metrics: Mapping[str, Any] = METRICS,
) -> Release:
    study = study_with(changes)
    plan = PrivacyPlan.of(study, card.unit)
    receipts = edit(receipts_of(plan))
    made = {name: of_weights(array) for name, array in weights(study, card).items()}
    return build_release(
        folder, study, card, plan, made, receipts, proportions, metrics, verify_keys, signing_key
    )


@dataclass(frozen=True)
class Parties:
    """A coordinator and two sites with their private keys."""

    coordinator: bytes = field(default_factory=new_secret)
    sites: Mapping[str, bytes] = field(
        default_factory=lambda: {site: new_secret() for site in ("north", "south")}
    )

    @property
    def public(self) -> dict[str, str]:
        return {site: verify_key_of(key).hex() for site, key in self.sites.items()}

    @property
    def trust(self) -> Trust:
        """What somebody who telephoned all of them trusts."""
        coordinator = TrustedKey("coordinator", "clinic", verify_key_of(self.coordinator).hex())
        return Trust((coordinator, *(TrustedKey("site", *item) for item in self.public.items())))

    def signed(self, receipts: list[Receipt]) -> list[Receipt]:
        return [replace(r, signature=sign(self.sites[r.site], r.message()).hex()) for r in receipts]

    def build(self, folder: Path, changes: Mapping[str, Any] | None = None, **how: Any) -> Release:
        """A release that all of them signed."""
        key = self.coordinator
        return build(folder, changes, edit=self.signed, verify_keys=self.public, signing_key=key, **how)


def rewrite(folder: Path, name: str, edit: Callable[[Any], Any]) -> None:
    """Change a JSON file and make the manifest anew, as a careful forger would."""
    path = folder / name
    body = json.loads(path.read_text())
    path.write_text(json.dumps(edit(body) or body))
    write_manifest(folder)
