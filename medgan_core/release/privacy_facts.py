"""What NIST SP 800-226 asks of whoever claims differential privacy, as far as a run knows it.

Near, Darais, Lefkovitz, Howarth 2025, "Guidelines for Evaluating Differential Privacy Guarantees",
https://doi.org/10.6028/NIST.SP.800-226: unit, parameters, mechanism, trust model, side channels, tuning.
"""

from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release.card import ReleaseCard

_TUNING = (
    "not in this epsilon: the defaults of MedGAN were tuned on public sets, and what was chosen for this "
    "study must not come from looking at the sites' data"
)
_SIDE_CHANNELS = (
    "when sites answered, and that they took part, is not protected; the gaps of floating-point noise are "
    "blunted (each value is a sum of four draws), discrete noise has none"
)
_SOURCE = "a ChaCha20 keystream with a secret key of each process; never from the study's seed"


def privacy_facts(card: ReleaseCard) -> dict[str, str]:
    """The facts by name; those of a release without privacy are few."""
    unit = f"{card.unit}, {card.neighbours} one"
    if not card.private:
        return {"guarantee": "none: no noise was added", "unit of privacy": unit}
    plan, most = card.plan, card.plan.max_sites_per_patient
    summed = plan.rules is not None
    return {
        "guarantee": f"(ε, δ)-differential privacy with ε = {card.epsilon:.4g}, δ = {card.delta:g}",
        "unit of privacy": unit,
        "bounded contribution": (
            f"at most {plan.max_images_per_patient} images of a patient, a clipped gradient of norm "
            f"{plan.clip_norm:g} each step, at most {most} {'site' if most == 1 else 'sites'}"
        ),
        "mechanism": "Gaussian, and discrete Gaussian in secure sums" if summed else "Gaussian",
        "accountant": card.accountant,
        "sampling assumption": (
            f"Poisson: each {card.unit} joins a step with probability {plan.sampling_rate:g} by a secret coin"
        ),
        "composition": f"{_uses(plan)} of this run; the sites' accounts hold earlier runs too",
        "trust model": (
            "secure sums, under the assumption told above"
            if summed
            else "local: each site adds the full noise itself"
        ),
        "source of noise": _SOURCE,
        "side channels": _SIDE_CHANNELS,
        "cost of tuning": _TUNING,
    }


def _uses(plan: PrivacyPlan) -> str:
    """What ε of a run is composed of, in words."""
    named = (
        ("one-shot query", plan.first_round == 0),
        ("every step", plan.rounds > 0),
        ("gate", plan.gate),
        ("evaluation", True),
    )
    return ", ".join(name for name, there in named if there)
