"""A site's part in a joint step: charged before data are touched, noised by its share, sealed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import client.site
from client.round import noisy_words
from medgan_core.config import Study
from medgan_core.errors import IntegrityError, QuorumError, RefusedError
from medgan_core.messages import Phase, Request, Stage
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.privacy.grid import STEPS, sensitivity_of_gradients, total_deviation
from medgan_core.privacy.noise import Keystream, SeededRandom
from medgan_core.seeds import Seeds
from server.state import FederationState
from tests.client.sums import SITES, Hospitals, coordinator, hospital
from tests.client.taint import Taint
from tests.server.making import Federation

JOINT: dict[str, Any] = {"share": "gradient", "training__discriminator_steps": 3}
ONE = "site-1"


def joint() -> Federation:
    return coordinator(**JOINT)


def in_training(of: Federation, number: int = 1) -> FederationState:
    """A state before a training round, after a made-up one-shot round."""
    statistics = {"embedding": np.ones((2, of.study.feature_count + 1))}
    return replace(of.state, round=number, groups={**of.state.groups, "statistics": statistics})


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    with Hospitals(tmp_path, joint()) as opened:
        yield opened


class Still(SeededRandom):
    """No noise; every coin is `coin`."""

    def __init__(self, coin: float = 0.0) -> None:
        super().__init__(0)
        self.coin = coin
        self.deviations: list[float] = []

    def uniform(self, count: int) -> Tensor:
        return torch.full((count,), self.coin, dtype=torch.float64)

    def discrete(self, count: int, deviation: float) -> NDArray[np.int64]:
        self.deviations.append(deviation)
        return np.zeros(count, np.int64)


def words(random: Any, **changes: Any) -> NDArray[np.int64]:
    of = coordinator(**JOINT | changes)
    request = of.request(in_training(of))
    found = noisy_words(of.study, of.task, of.plan, hospital(ONE), request, Seeds(0), random)
    return found.view(np.int64)


def test_only_the_discriminator_is_sent_and_only_a_sum_comes_back() -> None:
    of = joint()
    request = of.request(in_training(of))
    assert (request.phase, set(request.groups)) == (Phase.TRAIN, {"discriminator"})


def test_the_sum_is_clipped_by_patient_and_empty_where_nobody_is_sampled() -> None:
    still = Still()
    patients = len(hospital(ONE).training)
    assert 0 < np.linalg.norm(words(still)) <= patients * STEPS * (1 + 1e-3)
    assert still.deviations == [joint().plan.event(Phase.TRAIN).share_deviation]
    assert not words(Still(coin=0.999)).any()
    large = words(Still(), privacy__clip_norm=1e6)
    assert np.linalg.norm(large) < np.linalg.norm(words(Still()))


def test_the_noise_of_a_share_is_what_the_event_says() -> None:
    """A fresh Keystream and nobody sampled: what is left is the site's share alone."""

    class Nobody(Keystream):
        def uniform(self, count: int) -> Tensor:
            return torch.ones(count, dtype=torch.float64)

    event = joint().plan.event(Phase.TRAIN)
    found = words(Nobody())
    assert found.std() == pytest.approx(event.share_deviation, rel=5 / np.sqrt(2 * len(found)))
    shares = event.shares * event.share_deviation**2
    accounted = (event.noise_multiplier * sensitivity_of_gradients(event.dimension)) ** 2
    assert shares == pytest.approx(accounted)


def test_the_noise_in_the_sum_of_all_sites_is_what_the_plan_accounts_for(tmp_path: Path) -> None:
    """Of four shares at least two are nobody's own: the sum has √(4/2) of σ, and what pays for rounding."""
    of = coordinator(**JOINT, privacy__sampling_rate=1e-9, privacy__nominal_batch=1.0)
    with Hospitals(tmp_path, of) as hospitals:
        state = in_training(of)
        total = hospitals.sum(state).run(np.zeros(of.study.discriminator_size))
    event = of.plan.event(Phase.TRAIN)
    assert event.shares == 2
    assert total.std() == pytest.approx(total_deviation(event, 4), rel=5 / np.sqrt(2 * total.size))
    assert total_deviation(event, 4) == pytest.approx(event.noise_multiplier * np.sqrt(4 / 2), rel=2e-3)


def test_each_step_is_charged_before_data_are_touched_and_sealed_before_it_leaves(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def looked(*arguments: Any) -> Any:
        seen.append(hospitals.kinds(arguments[3].name))
        return noisy_words(*arguments)

    monkeypatch.setattr(client.site, "noisy_words", looked)
    before = hospitals.kinds(ONE)
    for number in (1, 2):
        done = hospitals.sum(in_training(hospitals.of, number))
        done.run(np.zeros(hospitals.of.study.discriminator_size))
        event = hospitals.of.plan.event(Phase.TRAIN)
        assert [(r.round, r.event, r.local_event) for r in done.receipts] == [
            (number, event, event.local)
        ] * len(SITES)
        assert all(r.local_spent is not None and r.local_spent > r.spent for r in done.receipts)
    assert len(seen) == 2 * len(SITES)
    assert all(kinds[-1] == "charge" for kinds in seen)
    assert hospitals.kinds(ONE) == [*before, "charge", "seal", "charge", "seal"]


def test_no_gradient_leaves_a_site_plainly(hospitals: Hospitals) -> None:
    request = hospitals.of.request(in_training(hospitals.of))
    with pytest.raises(RefusedError, match="secure sums alone"):
        hospitals.workers[ONE].answer(request)
    assert hospitals.kinds(ONE).count("charge") == 0


def test_old_sums_are_deleted_and_refused_but_never_made_again(hospitals: Hospitals) -> None:
    size = hospitals.of.study.discriminator_size
    first: Request | None = None
    for number in range(1, 7):
        hospitals.sum(in_training(hospitals.of, number)).run(np.zeros(size))
        first = first or hospitals.request(Stage.MASK)
    folder = hospitals.workers[ONE].folder
    assert len(list(folder.glob("*train*"))) == 4
    assert first is not None
    charged = hospitals.kinds(ONE)
    with pytest.raises(IntegrityError, match="missing"):
        hospitals.ask(ONE, first)
    assert hospitals.kinds(ONE) == charged
    assert hospitals.ask(ONE, hospitals.request(Stage.MASK)).round == 6


def test_images_reach_the_sum_through_the_engine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engine's sum there is nothing of the patients in what leaves."""
    of, site = joint(), hospital(ONE)
    request = of.request(in_training(of))

    def nothing(keeper: BookKeeper, *_: Any) -> list[Tensor]:
        return [torch.zeros_like(p) for p in keeper.parameters]

    monkeypatch.setattr(BookKeeper, "clipped_sum", nothing)
    taint = Taint()
    for tensor in (site.training.images, site.training.labels):
        taint.mark(tensor)
    with taint:
        found = noisy_words(of.study, of.task, of.plan, site, request, Seeds(0), Still())
    assert not found.any()
    assert taint.read == []


def test_the_study_says_when_steps_are_joint() -> None:
    def said(share: str) -> Study:
        return coordinator(share=share).study

    assert said("gradient").training_rounds == 2 * 2
    assert said("both").training_rounds == 2


def test_a_step_whose_request_lacks_the_discriminator_is_not_charged(hospitals: Hospitals) -> None:
    state = in_training(hospitals.of)
    bare = replace(state, groups={**state.groups, "discriminator": {}})
    with pytest.raises(QuorumError, match="the request's discriminator: missing"):
        hospitals.sum(bare).run(np.zeros(hospitals.of.study.discriminator_size))
    assert "charge" not in hospitals.kinds(ONE)
    hospitals.sum(state).run(np.zeros(hospitals.of.study.discriminator_size))
    assert hospitals.kinds(ONE)[-2:] == ["charge", "seal"]
