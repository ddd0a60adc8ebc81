from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.config import Study, parse_study
from medgan_core.data.archives import Archive
from medgan_core.data.source import Card, Site, SiteData, is_held_out
from medgan_core.errors import ConfigError
from medgan_core.seeds import Seeds
from simulations.partition import partition, patient_labels

CARD = Card("x", ("a", "b", "c"), (1, 8, 8), "OT", "patient", False)


def _archive(patients: int, images: int = 2, *, sites: tuple[str, ...] | None = None) -> Archive:
    owner = torch.arange(patients).repeat(images)
    random = torch.Generator().manual_seed(patients)
    labels = torch.randint(3, (len(owner),), generator=random)
    pictures = torch.arange(len(owner)).float().reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    keys = tuple(f"p{i}" for i in range(patients))
    return Archive(SiteData(CARD, keys, owner, pictures, labels), tuple(map(is_held_out, keys)), sites)


def _study(**sites: object) -> Study:
    return parse_study({"name": "x", "data": {"kind": "npz", "path": "x"}, "sites": sites})


def _everyone(sites: tuple[Site, ...]) -> list[str]:
    return [key for site in sites for part in (site.training, site.held_out) for key in part.patients]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 200),
    st.integers(1, 12),
    st.sampled_from([1e-3, 0.1, 1.0, 1000.0]),
    st.sampled_from([0.0, 0.3, 5.0]),
    st.integers(0, 99),
)
def test_every_patient_is_at_exactly_one_site_and_in_one_part(
    patients: int, count: int, alpha: float, skew: float, seed: int
) -> None:
    archive = _archive(patients)
    sites = partition(archive, _study(count=count, alpha=alpha, size_skew=skew), Seeds(seed))
    assert sorted(_everyone(sites)) == sorted(archive.data.patients)
    assert [site.name for site in sites] == [f"site-{i + 1}" for i in range(count)]
    assert all(len(site.training) >= 1 for site in sites)
    assert not any(is_held_out(key) for site in sites for key in site.training.patients)
    assert all(is_held_out(key) for site in sites for key in site.held_out.patients)
    images = torch.cat([part.images[:, 0, 0, 0] for s in sites for part in (s.training, s.held_out)])
    assert torch.equal(images.sort().values, archive.data.images[:, 0, 0, 0])


def test_the_same_seed_gives_the_same_sites_and_another_seed_others() -> None:
    archive, study = _archive(100), _study(count=3)
    first, again, other = (_everyone(partition(archive, study, Seeds(s))) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_alpha_governs_how_labels_differ_and_skew_how_sizes_do() -> None:
    archive = _archive(3000, images=1)
    alike = partition(archive, _study(count=3, alpha=1e6, size_skew=0), Seeds(0))
    assert all(900 > len(site.training) > 780 for site in alike)
    mixes = [Counter(site.training.labels.tolist()) for site in alike]
    assert all(0.25 < mix[c] / mix.total() < 0.42 for mix in mixes for c in range(3))
    apart = partition(archive, _study(count=3, alpha=0.02, size_skew=0), Seeds(0))
    shares = [max(Counter(s.training.labels.tolist()).values()) / len(s.training) for s in apart]
    assert sorted(shares)[1] > 0.7
    skewed = partition(archive, _study(count=3, alpha=1e6, size_skew=2), Seeds(0))
    assert max(len(s.training) for s in skewed) > 3 * min(len(s.training) for s in skewed)


def test_a_patient_has_the_label_of_most_images_and_the_lowest_of_a_tie() -> None:
    owner, labels = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([2, 2, 0, 2, 1, 1, 1])
    data = SiteData(CARD, ("a", "b", "c"), owner, torch.zeros(7, 1, 8, 8), labels)
    assert patient_labels(data).tolist() == [2, 1, 1]


def test_the_manifest_may_say_who_is_where() -> None:
    archive = _archive(40, sites=tuple("south" if i % 3 else "north" for i in range(40)))
    north, south = partition(archive, _study(count=2, assign="manifest"), Seeds(0))
    assert (north.name, south.name) == ("north", "south")
    assert {*north.training.patients, *north.held_out.patients} == {f"p{i}" for i in range(0, 40, 3)}
    with pytest.raises(ConfigError, match=r"sites.count = 3: expected 2, the sites that the manifest names"):
        partition(archive, _study(count=3, assign="manifest"), Seeds(0))
    with pytest.raises(ConfigError, match="no column site"):
        partition(_archive(9), _study(count=2, assign="manifest"), Seeds(0))


def test_more_sites_than_patients_to_train_on_are_refused() -> None:
    archive = _archive(60)
    training = archive.held_out.count(False)
    assert len(partition(archive, _study(count=training), Seeds(0))) == training
    with pytest.raises(ConfigError, match=rf"sites.count = {training + 1}: expected at most {training}"):
        partition(archive, _study(count=training + 1), Seeds(0))
    held = next(i for i in range(60) if archive.held_out[i])
    only = _archive(60, sites=tuple("b" if i == held else "a" for i in range(60)))
    with pytest.raises(ConfigError, match="b has none"):
        partition(only, _study(count=2, assign="manifest"), Seeds(0))


@pytest.mark.parametrize("seed", range(5))
def test_named_patients_judge_at_every_site_of_a_study_without_privacy(seed: int) -> None:
    data = _archive(5).data
    archive = Archive(data, (False, False, True, False, False), None)
    body = {"name": "x", "data": {"kind": "npz", "path": "x", "hold_out": ["p2"]}}
    open_study = parse_study(body | {"privacy": {"mode": "off"}})
    sites = partition(archive, open_study, Seeds(seed))
    assert [site.held_out.patients for site in sites] == [("p2",)] * 3
    assert sorted(key for site in sites for key in site.training.patients) == ["p0", "p1", "p3", "p4"]
    private = partition(archive, parse_study(body), Seeds(seed))  # one patient is at one site
    assert sorted(len(site.held_out) for site in private) == [0, 0, 1]
