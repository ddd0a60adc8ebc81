"""A run under secure sum from study to release: keys, approval, drop-outs, and what is told."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import SiteWorker
from medgan_core.config import Study, load_study
from medgan_core.errors import BudgetError, IntegrityError, QuorumError, RefusedError
from medgan_core.messages import Request, Stage
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import RunFolder, read_json
from medgan_core.release.verify import verify_release
from simulations.course import resume_run, run_study
from simulations.hospitals import Launch
from simulations.shipped import study_path
from tests.simulations.making import Seeded, entries, tiny_study, write_set

SECURE = {"sites__count": 4, "privacy__secure_sum": True, "privacy__drop": 1, "evaluation__epsilon": 0.5}


def study(**changes: Any) -> Study:
    return tiny_study(**SECURE | changes)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return Launch(data=str(write_set(tmp_path_factory.mktemp("data"), patients=80)))


@pytest.fixture(scope="module")
def run(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run_study(study(), tmp_path_factory.mktemp("runs"), launch, random_for=Seeded(3))


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Stage, set[str]], None]]:
    """Sites fail in a stage; nobody does where the stage is not asked for."""
    real = SiteWorker.take_part

    def fails(stage: Stage, sites: set[str]) -> None:
        def wrapped(self: SiteWorker, request: Request, kept: Any) -> Any:
            if request.secure and request.secure.stage is stage and self.site.name in sites:
                raise RefusedError("the machine is down")
            return real(self, request, kept)

        monkeypatch.setattr(SiteWorker, "take_part", wrapped)

    yield fails
    monkeypatch.undo()


def test_a_run_tells_both_epsilons_and_its_release_verifies(run: RunFolder) -> None:
    told = read_json(run.path / "metrics.json")
    verified = verify_release(run.release)
    assert (told["epsilon"], told["local_epsilon"]) == (verified.epsilon, verified.local_epsilon)
    assert told["local_epsilon"] > told["epsilon"]
    for site in told["sites"]:
        assert site["local"] == told["local_epsilon"]
    page = (run.path / "report.html").read_text()
    assert "helped by at most\n1 of the 4 sites" in page
    assert "the coordinator, the\nother sites, whoever" not in page


def test_every_site_has_a_key_of_its_own_and_the_run_the_public_ones(run: RunFolder) -> None:
    pinned = read_json(run.path / "cohort.json")
    assert list(pinned) == [f"site-{n}" for n in range(1, 5)]
    private = [run.site(name) / "secure-sum.key" for name in pinned]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600] * 4
    secret = {path.read_bytes().hex() for path in private}
    assert len(secret) == 4
    assert not any(
        key in path.read_text()
        for key in secret
        for path in [*run.path.glob("*.json"), *run.release.glob("*.json")]
    )


def test_no_part_of_a_site_is_in_what_the_coordinator_keeps(run: RunFolder) -> None:
    kept = run.latest_state()
    assert kept is not None
    statistics = kept[0]["statistics"]
    assert set(statistics) == {
        "embedding",
        "gate",
        "histogram",
        *(f"proportions.site-{n}" for n in range(1, 5)),
    }
    assert len({array.tobytes() for name, array in statistics.items() if name.startswith("prop")}) == 1


def test_steps_are_charged_once_and_nothing_is_left_held(run: RunFolder) -> None:
    assert entries(run.path).count("charge") == 4
    assert entries(run.path)[-1] == "close"


def test_a_round_that_failed_is_kept_and_resumed_at_the_cost_of_another(
    tmp_path: Path, launch: Launch, fail: Callable[[Stage, set[str]], None], run: RunFolder
) -> None:
    fail(Stage.REVEAL, {"site-1", "site-2"})
    with pytest.raises(QuorumError, match="stage reveal") as caught:
        run_study(study(), tmp_path, launch, random_for=Seeded(3))
    [path] = list(tmp_path.iterdir())
    assert caught.value.__notes__ == [f"go on with: medgan-sim resume {path}"]
    fail(Stage.REVEAL, set())
    resumed = resume_run(path, random_for=Seeded(4))
    told = verify_release(resumed.release)
    assert entries(path).count("charge") == 5
    receipts = read_json(resumed.release / "receipts.json")
    assert sorted(r["repeat"] for r in receipts if r["round"] == 0) == [0] * 4 + [1] * 4
    assert told.epsilon > verify_release(run.release).epsilon
    assert read_json(path / "metrics.json")["epsilon"] == told.epsilon
    rounds = [json.loads(line)["round"] for line in (path / "rounds.jsonl").read_text().splitlines()]
    assert rounds == [0, 1, 2, 3]


def test_an_evaluation_that_failed_too_often_ends_with_a_clear_word(
    tmp_path: Path, launch: Launch, fail: Callable[[Stage, set[str]], None]
) -> None:
    fail(Stage.CONFIRM, {"site-1", "site-2"})
    with pytest.raises(QuorumError, match="stage confirm"):
        run_study(study(rounds=0, privacy__max_repeats=0), tmp_path, launch)
    [path] = list(tmp_path.iterdir())
    fail(Stage.CONFIRM, set())
    with pytest.raises(QuorumError, match=r"stage mask.*max_repeats = 0"):
        resume_run(path)


def test_other_keys_than_those_approved_are_refused(
    tmp_path: Path, launch: Launch, fail: Callable[[Stage, set[str]], None]
) -> None:
    fail(Stage.SHARE, {"site-1", "site-2"})
    with pytest.raises(QuorumError):
        run_study(study(rounds=0), tmp_path, launch)
    [path] = list(tmp_path.iterdir())
    fail(Stage.SHARE, set())
    kept = (path / "cohort.json").read_text()
    swapped = json.loads(kept)
    swapped["site-3"] = "11" * 32
    (path / "cohort.json").write_text(json.dumps(swapped))
    with pytest.raises(RefusedError, match=r"another plan|not its own"):
        resume_run(path)
    (path / "cohort.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"cohort\.json is damaged"):
        resume_run(path)
    (path / "cohort.json").write_text(kept)
    resume_run(path)


def test_sites_that_do_not_trust_count_the_local_epsilon(
    tmp_path: Path, launch: Launch, run: RunFolder
) -> None:
    verified = verify_release(run.release)
    assert verified.local_epsilon is not None
    between = 1.02 * verified.local_epsilon
    with pytest.raises(BudgetError, match="without trust in secure sums"):
        run_study(study(sites__trust_secure_sum=False, sites__epsilon_cap=between), tmp_path, launch)
    with pytest.raises(BudgetError, match="local_epsilon"):
        run_study(study(sites__local_epsilon=verified.local_epsilon), tmp_path, launch)
    run_study(study(rounds=0, sites__trust_secure_sum=False, sites__epsilon_cap=50.0), tmp_path, launch)


def test_shipped_studies_of_three_sites_and_more_are_allowed_by_the_default_policy() -> None:
    for name in ("pneumonia", "mnist", "phantoms"):
        shipped = load_study(study_path(name), ["privacy.secure_sum=true", "strategy=refine"])
        plan = PrivacyPlan.of(shipped, "patient")
        for account in ("training", "held_out"):
            holds = plan.holds(account)
            assert epsilon(holds, plan.delta) <= shipped.sites.epsilon_cap
            assert epsilon([event.local for event in holds], plan.delta) <= shipped.sites.local_epsilon


def test_the_loop_without_noise_is_the_plain_run_up_to_the_grid(tmp_path: Path, launch: Launch) -> None:
    ends = {}
    for secure in (True, False):
        run = run_study(
            study(privacy__mode="off", privacy__secure_sum=secure, rounds=0), tmp_path / str(secure), launch
        )
        kept = run.latest_state()
        assert kept is not None
        ends[secure] = kept[0]["statistics"]
    for name in ("embedding", "histogram"):
        assert np.allclose(ends[True][name], ends[False][name], rtol=0, atol=160 / 2**21)
    assert "NOT PRIVATE" in (run.path / "report.html").read_text()
