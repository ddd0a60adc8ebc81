"""A pooled set divided among the hospitals of a simulation, each patient at exactly one."""

import numpy as np
import torch
from numpy.typing import NDArray

from medgan_core.config import Study
from medgan_core.data.archives import Archive
from medgan_core.data.source import Site, SiteData
from medgan_core.errors import ConfigError
from medgan_core.seeds import Seeds

_TINY = 1e-12


def partition(archive: Archive, study: Study, seeds: Seeds) -> tuple[Site, ...]:
    """The sites of a study, `site-1` … or as the manifest names them (sorted).

    By "dirichlet" every site gets a mix of labels from Dirichlet(alpha) and a size from
    lognormal(0, size_skew); alpha → ∞ and size_skew = 0 make sites alike (Hsu et al. 2019,
    arXiv:1909.06335). Every site trains on at least one patient. Patients whom a
    study without privacy names in `data.hold_out` judge at every site, since they may be fewer than the
    sites. Raises ConfigError where the study and the set do not agree on the sites.
    """
    if study.sites.assign == "manifest":
        names, site_of = _by_manifest(archive, study.sites.count)
    else:
        names, site_of = _by_dirichlet(archive, study, seeds)
    shared = bool(study.data.hold_out) and not study.private
    return tuple(
        _site(archive, name, site_of == s, study.sites.assign, shared) for s, name in enumerate(names)
    )


def _site(archive: Archive, name: str, here: NDArray[np.bool_], assign: str, shared: bool) -> Site:
    held_out = np.asarray(archive.held_out)
    training = np.flatnonzero(here & ~held_out).tolist()
    if not training:
        raise ConfigError("sites.assign", assign, f"a patient to train on at every site; {name} has none")
    judging = np.flatnonzero((here | shared) & held_out).tolist()
    return Site(name, archive.data.of_patients(training), archive.data.of_patients(judging))


def patient_labels(data: SiteData) -> NDArray[np.int64]:
    """Each patient's label [p]: that of most of the images, the lowest where several tie."""
    classes = len(data.card.classes)
    counts = torch.bincount(data.owner * classes + data.labels, minlength=len(data) * classes)
    # NumPy's argmax promises the first of several maxima, torch's does not
    labels: NDArray[np.int64] = counts.reshape(len(data), classes).numpy().argmax(axis=1)
    return labels


def _by_manifest(archive: Archive, count: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if archive.site_of is None:
        raise ConfigError("sites.assign", "manifest", "dirichlet: the manifest has no column site")
    names = tuple(sorted(set(archive.site_of)))
    if len(names) != count:
        raise ConfigError("sites.count", count, f"{len(names)}, the sites that the manifest names")
    return names, np.asarray([names.index(site) for site in archive.site_of], dtype=np.int64)


def _by_dirichlet(archive: Archive, study: Study, seeds: Seeds) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    count = study.sites.count
    held_out = np.asarray(archive.held_out)
    training = int((~held_out).sum())
    if count > training:
        raise ConfigError("sites.count", count, f"at most {training}, the patients to train on")
    random = np.random.default_rng(seeds.child("partition").integer())
    shares = _shares(len(archive.data.card.classes), study, random)
    ends = shares.cumsum(axis=1)[patient_labels(archive.data)]
    draw = random.random(len(archive.data))[:, None]
    site_of = np.minimum((draw >= ends).sum(axis=1), count - 1).astype(np.int64)
    for part in (~held_out, held_out):
        _fill(site_of, np.flatnonzero(part), count)
    return tuple(f"site-{s + 1}" for s in range(count)), site_of


def _shares(classes: int, study: Study, random: np.random.Generator) -> NDArray[np.float64]:
    """For each class the probability of each site: [classes, sites], rows sum to 1."""
    sites = study.sites
    sizes = random.lognormal(0.0, sites.size_skew, sites.count)
    mixes = random.dirichlet(np.full(classes, sites.alpha), sites.count)
    weights = np.nan_to_num(sizes[:, None] * mixes).T + _TINY
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _fill(site_of: NDArray[np.int64], patients: NDArray[np.int64], count: int) -> None:
    """Give every site without one of these patients one from the largest site, as long as that has two."""
    sizes = np.bincount(site_of[patients], minlength=count)
    for site in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        if sizes[largest] < 2:
            return
        moved = patients[site_of[patients] == largest][0]
        site_of[moved] = site
        sizes[largest] -= 1
        sizes[site] += 1
