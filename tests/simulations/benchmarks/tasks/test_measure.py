"""A task beside its rivals: what is measured, kept, shown, and not measured twice."""

from pathlib import Path

import pytest

from medgan_core.config import load_study
from medgan_core.errors import ConfigError, InputError, IntegrityError
from medgan_core.gan.outputs import prepared_alone
from medgan_core.gan.scores import psnr_share
from simulations.benchmarks.tasks import METHODS
from simulations.benchmarks.tasks.case import Case
from simulations.benchmarks.tasks.classical import CLASSICAL, Restorer
from simulations.benchmarks.tasks.federated import pooled
from simulations.benchmarks.tasks.judging import Made, judged
from simulations.benchmarks.tasks.measure import measure
from simulations.benchmarks.tasks.page import write
from simulations.benchmarks.tasks.rows import Row, add_command, rows_of
from simulations.hospitals import Launch
from simulations.progress import Silent
from tests.simulations.making import tiny_study, write_set


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    study = tiny_study(
        task="restoration",
        sites__nominal_patients=50,
        privacy__mode="off",
        privacy__sampling_rate=0.2,
        mapping__width=4,
        evaluation__epsilon=8.0,
        mapping__corruption="superres2",
    )
    path = tmp_path / "small.toml"
    path.write_text(study.to_toml())
    return path


def fill(small: Path, root: Path, methods: tuple[str, ...], *settings: str, public: bool = True) -> list[Row]:
    """Fill the rows of a study and give all that are kept."""
    path = small.parent / "tasks.json"
    measure(str(small), settings, methods, [0], path, Launch(data=str(root), public=public), Silent())
    return list(rows_of(path))


def test_rows_are_kept_and_not_measured_again(small: Path, root: Path) -> None:
    first = fill(small, root, ("medgan", "l1-only"))
    assert [row.method for row in first] == ["medgan", "l1-only"]
    assert all(0 <= value <= 1 for row in first for value in row.scores.values())
    assert all(set(row.scores) == {"psnr", "ssim", "mse"} for row in first)
    assert [row.epsilon for row in first] == [float("inf")] * 2
    assert fill(small, root, ("medgan", "l1-only")) == first
    again = fill(small, root, ("medgan",), "training.discriminator_steps=1")
    assert len(again) == 3
    page = write(small.parent / "tasks.json")
    assert page in (small.parent / "tasks.md").read_text()
    assert "| medgan | " in page
    assert "`training.discriminator_steps=1`" in page


def test_every_method_says_what_it_is(small: Path, root: Path) -> None:
    fill(small, root, ("l1-only",))
    path = small.parent / "tasks.json"
    add_command(path, "medgan-sim bench tasks small")
    write(path)
    page = path.with_suffix(".md").read_text()
    assert "- `l1-only` (restoration): The same federation with an adversarial weight of 0" in page
    assert "medgan-sim bench tasks small" in page
    assert all(judge.__doc__ for methods in METHODS.values() for judge in methods.values())


def test_a_private_run_tells_its_epsilon(small: Path, root: Path) -> None:
    [row] = fill(small, root, ("medgan",), "privacy.mode=dp", "privacy.noise_multiplier=4.0")
    assert 0 < row.epsilon < 100


def test_identity_is_scored_as_its_input_is(small: Path, root: Path) -> None:
    case = Case(load_study(small), Launch(data=str(root), public=True))
    one, same = (judged(case, Made(lambda inputs: inputs[:, :1])).scores for _ in range(2))
    assert one == same
    half = judged(case, Made(lambda inputs: 0.0 * inputs[:, :1])).scores
    assert half["psnr"] < one["psnr"]


def test_a_classical_method_is_given_the_spoiled_image_and_no_first_guess(small: Path, root: Path) -> None:
    case = Case(load_study(small, ["mapping.corruption='blur'"]), Launch(data=str(root), public=True))
    reached = METHODS["restoration"]["wiener"](case)
    training, held_out = (prepared_alone(case.task, data.images) for data in case.patients)
    restorer = Restorer("wiener", CLASSICAL["blur"]["wiener"], training[:, :2], training[:, 2:])
    expected = psnr_share(restorer(held_out[:, :2]), held_out[:, 2:]).mean()
    assert reached is not None
    assert reached.scores["psnr"] == pytest.approx(float(expected), abs=1e-4)


def test_pooled_training_sees_all_patients_of_the_same_split(small: Path, root: Path) -> None:
    case = Case(load_study(small), Launch(data=str(root), public=True))
    reached = pooled(case)
    training, held_out = case.patients
    assert set(reached.scores) == {"psnr", "ssim", "mse"}
    assert not set(training.patients) & set(held_out.patients)
    assert len(training) + len(held_out) == 40


def test_what_cannot_be_measured_is_refused_by_name(small: Path, root: Path) -> None:
    with pytest.raises(InputError, match="--methods magic: expected some of medgan, "):
        fill(small, root, ("magic",))
    with pytest.raises(ConfigError, match=r"^task = 'synthesis': expected one of "):
        fill(small, root, (), "task=synthesis")
    with pytest.raises(ConfigError, match=r"^data\.path = .*a public set"):
        fill(small, root, (), public=False)
    (small.parent / "tasks.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"tasks\.json"):
        fill(small, root, ())
