"""Tasks that draw from noise: what holds their images together beside real ones, and what they add to few."""

from functools import lru_cache

from torch import Tensor

from medgan_core.evaluate.augmentation import SHARES, gains
from medgan_core.evaluate.structure import structure
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.federation import federation
from simulations.benchmarks.tasks.case import Case, Judge, Reached
from simulations.hospitals import secret_random


def medgan(case: Case) -> Reached:
    """The study as it is: a federation of its sites, with the privacy that it asks for."""
    images, _, epsilon = _made(case)
    return Reached(_held_together(case, images, "synthetic"), epsilon)


def real(case: Case) -> Reached:
    """Real images of the patients who are trained on."""
    return Reached(_held_together(case, case.patients[0].images, "real"))


def at_a_tenth(case: Case) -> Reached:
    """A classifier on a tenth of the real patients, beside it the same with the study's synthetic images."""
    return _gained(case, SHARES[0])


def at_a_quarter(case: Case) -> Reached:
    """The same generator and a quarter of the real patients; seconds are of judging alone."""
    return _gained(case, SHARES[1])


def at_all(case: Case) -> Reached:
    """The same generator and all real patients; seconds are of judging alone."""
    return _gained(case, SHARES[2])


@lru_cache(maxsize=1)
def _made(case: Case) -> tuple[Tensor, Tensor, float]:
    """Synthetic images with labels of the study's generator, trained once for all methods, and ε charged."""
    study = case.study
    sampler = federation(study, case.sites, secret_random).sampler()
    images, labels = sampler.draw(study.evaluation.synthetic_images, Seeds(study.seed).child("evaluation"))
    return images, labels, sampler.epsilon


def _held_together(case: Case, images: Tensor, kind: str) -> dict[str, float]:
    """The figures of `structure` for these images; "shuffled": their own channels, each of another image."""
    training, seed = case.patients[0], Seeds(case.study.seed).child("report").integer()
    found = structure(case.study.task, training.images, training.owner, images, seed=seed)
    return {
        name.removesuffix(f"_{kind}"): value
        for name, value in found.items()
        if name.endswith((f"_{kind}", "_shuffled"))
    }


def _gained(case: Case, share: float) -> Reached:
    """Figures with synthetic images, the gain by them, and the ends of its 95 % interval."""
    images, labels, epsilon = _made(case)
    found: dict[str, float] = {}
    for figure, gain in gains(*case.patients, images, labels, share=share).items():
        found |= {figure: gain.with_synthetic, f"{figure}_gain": gain.gain}
        found |= {f"{figure}_gain_from": gain.low, f"{figure}_gain_to": gain.high}
    return Reached(found, epsilon)


STRUCTURE: dict[str, Judge] = {"medgan": medgan, "real": real}
AUGMENTATION: dict[str, Judge] = {
    "medgan": at_a_tenth,
    "medgan-quarter": at_a_quarter,
    "medgan-all": at_all,
}
