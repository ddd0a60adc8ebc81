"""The rival of anomaly detection: an autoencoder, judged by the pixels that it does not draw again."""

from pathlib import Path

import pytest

from medgan_core.config import Study
from simulations.benchmarks.tasks.anomaly import autoencoder
from simulations.benchmarks.tasks.case import Case
from simulations.benchmarks.tasks.federated import medgan
from simulations.hospitals import Launch
from tests.simulations.making import tiny_study, write_set


def study(**changes: object) -> Study:
    return tiny_study(
        task="anomaly",
        sites__nominal_patients=50,
        privacy__sampling_rate=0.5,
        training__discriminator_steps=40,
        training__generator_learning_rate=0.01,
        mapping__width=4,
        mapping__normal="normal",
        **changes,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), patients=120)


def test_brightness_that_it_never_saw_is_an_anomaly_to_it(root: Path) -> None:
    reached = autoencoder(Case(study(privacy__mode="off"), Launch(data=str(root), public=True)))
    assert reached is not None
    assert reached.epsilon == float("inf")
    assert reached.scores["auc"] > 0.9


def test_it_is_judged_by_the_scores_that_the_task_is_judged_by(root: Path) -> None:
    case = Case(study(evaluation__epsilon=8.0), Launch(data=str(root), public=True))
    ours, rival = medgan(case), autoencoder(case)
    assert rival is not None
    assert set(rival.scores) == set(ours.scores)
    assert 0 < rival.epsilon < 100
