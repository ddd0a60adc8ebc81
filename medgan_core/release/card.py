"""The card of a release: what a hospital's board reads before it lets synthetic images out.

After Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993, and the
questions of NIST SP 800-226 on differential privacy. `card.json` is the value, `card.md` the same in words.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.errors import InputError
from medgan_core.messages import Phase, Receipt, float_to_json
from medgan_core.privacy.accounting import ACCOUNTANT, ACCOUNTANT_OF_SAMPLING, ACCOUNTANT_OF_SUMS
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import environment
from medgan_core.release.check.result import CheckResult
from medgan_core.release.figures import Figure
from medgan_core.release.spending import (
    SiteSpending,
    release_epsilon,
    release_local_epsilon,
    spending,
)

NOT_PRIVATE: Literal["NOT PRIVATE"] = "NOT PRIVATE"
TRUST_MODEL = (
    "Noise is added locally: every site adds the full noise to what it sends, so the guarantee holds against "
    "the coordinator, the other sites and everybody who gets the release. There is no secure sum."
)
_OWN_NOISE = " In the training rounds every site adds the full noise itself, and nobody is trusted."
NO_TRUST = "No noise was added: whoever sees the release, or what a site sent, may learn about its patients."
INTENDED_USE = (
    "Research, teaching, and the development and testing of software where real images may not be shared.",
    "Training of models that are validated on real images before anybody relies on them.",
)
FORBIDDEN_USE = (
    "Diagnosis, treatment or any decision about a person.",
    "Attempts to re-identify patients, or to find out who was in the data or which hospital took part.",
    "Presenting the images as real ones; they are to be marked as synthetic wherever they are shown.",
)
INTENDED_USE_ON_IMAGES = (
    "Research and teaching, on images that whoever uses the network may see: docs/use.md.",
    "Development of software that is validated on real patients before anybody relies on it.",
)
FORBIDDEN_USE_ON_IMAGES = (
    "Diagnosis, treatment or any decision about a person.",
    "Attempts to re-identify patients, or to find out who was in the data or which hospital took part.",
    "Presenting what the network drew as measured; it is to be marked as derived wherever it is shown.",
)
NOT_PROTECTED = (
    "Which hospitals took part, that they hold such images, and when they answered (timing).",
    "What is declared in public: classes, image shape, modality, nominal sizes and sampling rate.",
    "Facts about groups of patients, which the generator is there to learn.",
    "Resemblance: a synthetic image may look like a real one; how much any single patient can matter to "
    "it is what epsilon bounds.",
)


class DataFacts(BaseModel):
    """Whose data: the public facts of the set, as a person declared them. `image_shape` is (c, h, w)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    modality: str
    source: str
    licence: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    public: bool


class ReleaseCard(BaseModel):
    """All that a person must know of a release.

    `epsilon` at `delta` is that of the release: the largest of its sites, composed over the
    `plan.max_sites_per_patient` sites that a patient may be at. `proportions` [classes] are the noisy shares
    of the classes, empty where unknown. `metrics` are plain JSON with figures that were allowed to leave.
    `created` is UTC, ISO 8601; `generator_sha256` is of the file generator.safetensors.

    Under secure sum `epsilon` holds if those that `trust_model` names do not work together, `local_epsilon`
    whoever does; it is None without secure sum, where nobody is trusted.

    `verify_keys` are the Ed25519 public keys in hex with which sites sign their receipts, by site; empty
    where they do not. `expires` is UTC, ISO 8601, empty where the study sets no end; `contact` and `licence`
    are those of the study's [release]. `check` is what the release check found, None before one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    content: Literal["generator of synthetic images"] = "generator of synthetic images"
    privacy: Literal["dp", "NOT PRIVATE"]
    study: str
    run: str
    task: str
    unit: Literal["patient", "image"]
    neighbours: str
    epsilon: Figure
    delta: float
    accountant: str
    trust_model: str
    sites: tuple[SiteSpending, ...]
    plan: PrivacyPlan
    data: DataFacts
    proportions: tuple[float, ...]
    metrics: dict[str, Any]
    intended_use: tuple[str, ...]
    forbidden_use: tuple[str, ...]
    not_protected: tuple[str, ...]
    environment: dict[str, Any]
    generator_sha256: str
    created: str
    local_epsilon: Figure | None = None
    verify_keys: dict[str, str] = {}
    expires: str = ""
    contact: str = ""
    licence: str = "unknown"
    check: CheckResult | None = None

    @classmethod
    def of(
        cls,
        study: Study,
        card: Card,
        plan: PrivacyPlan,
        receipts: Sequence[Receipt],
        proportions: Sequence[float],
        metrics: Mapping[str, Any],
        generator_sha256: str,
        verify_keys: Mapping[str, str],
    ) -> "ReleaseCard":
        """The card of a run, with ε computed from its receipts. Receipts are taken to be checked."""
        private = plan.private and not any(receipt.event.infinite for receipt in receipts)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(
            privacy="dp" if private else NOT_PRIVATE,
            study=study.name,
            run=receipts[0].run,
            task=study.task,
            unit=card.unit,
            neighbours=plan.neighbours,
            epsilon=release_epsilon(receipts, plan),
            delta=plan.delta,
            accountant=accountant(plan),
            trust_model=trust_model(plan, private),
            sites=spending(receipts, plan),
            plan=plan,
            data=DataFacts(**{name: getattr(card, name) for name in DataFacts.model_fields}),
            proportions=_normalised(proportions, len(card.classes)),
            metrics=plain(metrics),
            intended_use=INTENDED_USE if study.free_fakes else INTENDED_USE_ON_IMAGES,
            forbidden_use=FORBIDDEN_USE if study.free_fakes else FORBIDDEN_USE_ON_IMAGES,
            not_protected=NOT_PROTECTED,
            environment=environment(),
            generator_sha256=generator_sha256,
            created=created,
            local_epsilon=release_local_epsilon(receipts, plan),
            verify_keys={
                site: key for site, key in verify_keys.items() if site in {r.site for r in receipts}
            },
            expires=expiry(created, study.release.valid_days),
            contact=study.release.contact,
            licence=study.release.licence,
        )

    @property
    def private(self) -> bool:
        """Whether the release protects its patients at all."""
        return self.privacy == "dp"

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON, infinity as "inf"; `ReleaseCard.model_validate` reads it back."""
        return self.model_dump(mode="json")


def expiry(created: str, valid_days: int) -> str:
    """The end of a release that was made then (ISO 8601), in the same form; empty for 0 days."""
    if not valid_days:
        return ""
    return (datetime.fromisoformat(created) + timedelta(days=valid_days)).isoformat(timespec="seconds")


def accountant(plan: PrivacyPlan) -> str:
    """How ε was computed."""
    if plan.rules is None:
        return ACCOUNTANT
    return ACCOUNTANT_OF_SUMS + (ACCOUNTANT_OF_SAMPLING if plan.summed(Phase.TRAIN) else "")


def trust_model(plan: PrivacyPlan, private: bool) -> str:
    """Whom a patient must trust, and for what."""
    if not private:
        return NO_TRUST
    rules = plan.rules
    if rules is None:
        return TRUST_MODEL
    helpers = "one site" if rules.collude == 1 else f"{rules.collude} sites"
    return (
        f"Secure sum: of the {summed_queries(plan)} nobody saw more than one sum over the "
        f"{rules.sites} sites, to which each added a share of the noise. Epsilon holds if the coordinator is "
        f"helped by at most {helpers} of the {rules.sites} (collude = {rules.collude}), and at least "
        f"{rules.survivors} were in the sum (drop = {rules.drop}); {rules.threshold} sites must help to open "
        f"one (threshold = {rules.threshold}), so that the coordinator cannot open another sum unnoticed. "
        "If more sites work together with the coordinator, what a site sent is protected by its own share of "
        "the noise alone: the local epsilon." + ("" if plan.summed(Phase.TRAIN) else _OWN_NOISE)
    )


def summed_queries(plan: PrivacyPlan) -> str:
    """What of a run under secure sum goes through one, in words."""
    names = ["one-shot query", *["gate"] * plan.gate, "evaluation"]
    if plan.attack_size:
        names += ["attack on members", "its control"]
    if plan.summed(Phase.TRAIN):
        names.append("training steps")
    return f"{', '.join(names[:-1])} and {names[-1]}"


def plain(value: Any) -> Any:
    """Plain JSON of nested metrics: NumPy's and torch's scalars unpacked, nan and infinity as strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str) or value is None:
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(entry) for entry in value]
    return float_to_json(value) if isinstance(value, float) else value


def _normalised(proportions: Sequence[float], classes: int) -> tuple[float, ...]:
    """Shares that sum to 1, or none."""
    shares = tuple(float(share) for share in proportions)
    if not shares:
        return ()
    total = sum(shares)
    if len(shares) != classes or min(shares) < 0 or not (math.isfinite(total) and total > 0):
        raise InputError(
            f"proportions {list(shares)}: expected {classes} finite shares ≥ 0 with a positive sum"
        )
    return tuple(share / total for share in shares)
