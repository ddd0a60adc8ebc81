import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.site
from client.asked import RoundResult
from client.round import local_round
from client.site import SiteWorker
from medgan_core.data.source import SiteData
from medgan_core.errors import (
    BudgetError,
    IntegrityError,
    LedgerError,
    MedGANError,
    ReceiptError,
    RefusedError,
)
from medgan_core.messages import METRICS, Groups, Phase, Update
from medgan_core.record import load_groups
from medgan_core.seeds import Seeds
from medgan_core.tensors import initial_discriminator, weights_of
from server.aggregate import check_update
from server.state import expected_groups
from tests.client.making import Desk, Fresh, coordinator, hospital, opened, patients, request, state

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A hospital that has approved the run, with noise that never repeats."""
    with opened(tmp_path, random_for=Fresh()) as made:
        made.worker.approve()
        yield made


class CrashError(Exception):
    """The machine stops."""


def crash(*_: object) -> Any:
    raise CrashError


def same(one: Update, other: Update) -> bool:
    """To the byte, receipt included."""
    return one.digest() == other.digest() and one.receipt == other.receipt


def equal(one: Groups, other: Groups) -> bool:
    return one.keys() == other.keys() and all(
        one[group].keys() == other[group].keys()
        and all(np.array_equal(array, other[group][name]) for name, array in one[group].items())
        for group in one
    )


# Approval


def test_approval_holds_the_whole_run_on_both_accounts(desk: Desk) -> None:
    worker, plan = desk.worker, coordinator().plan
    assert worker.plan == plan
    hold = desk.ledger.export()["entries"][-1]
    assert hold["kind"] == "hold"
    held = {name: hold["body"]["events"][account] for name, account in worker.accounts.items()}
    assert sum(event["steps"] for event in held["training"]) == 1 + plan.rounds * plan.steps
    assert [event["steps"] for event in held["held_out"]] == [1, 1]
    assert desk.spent == 0


def test_approval_twice_is_as_once(desk: Desk) -> None:
    desk.worker.approve()
    assert desk.kinds.count("hold") == 1


def test_a_run_above_the_cap_is_refused_at_approval(tmp_path: Path) -> None:
    with opened(tmp_path, cap=0.5) as desk:
        with pytest.raises(BudgetError, match="asks for epsilon"):
            desk.worker.approve()
        with pytest.raises(BudgetError, match="no hold"):
            desk.worker.answer(request(0))
        assert desk.spent == 0


def test_where_both_cohorts_share_an_account_all_their_events_are_held(tmp_path: Path) -> None:
    site = replace(hospital(), held_out=patients("u", "v", "w", "a"))  # an earlier split had them together
    with opened(tmp_path, site=site) as desk:
        assert len(set(desk.worker.accounts.values())) == 1
        desk.worker.approve()
        (held,) = desk.ledger.export()["entries"][-1]["body"]["events"].values()
        plan = desk.worker.plan
        everything = (*plan.events("training"), *plan.events("held_out"))
        assert sum(event["steps"] for event in held) == sum(event.steps for event in everything)
        desk.worker.answer(request(0))
        desk.worker.answer(request(4))


# Answers


@pytest.mark.parametrize("number", range(5))
def test_an_answer_is_what_the_coordinator_expects(desk: Desk, number: int) -> None:
    of, asked = coordinator(), request(number)
    update = desk.worker.answer(asked)
    check_update(update, asked, expected_groups(of.study, of.task, state(number)))
    assert update.metrics.keys() == METRICS[asked.phase]
    assert update.receipt.event == of.plan.event(asked.phase)
    assert update.receipt.account == ("held_out" if number >= 3 else "training")
    assert desk.kinds[-2:] == ["charge", "seal"]


def test_every_round_is_charged_to_its_own_account(desk: Desk) -> None:
    training, held_out = desk.worker.accounts["training"], desk.worker.accounts["held_out"]
    spent = []
    for number in (0, 1, 3, 4):
        update = desk.worker.answer(request(number))
        spent.append((desk.ledger.spent(training), desk.ledger.spent(held_out)))
        assert update.receipt.spent == spent[-1][number >= 3]
    assert 0 < spent[0][0] < spent[1][0] == spent[2][0]
    assert (spent[0][1], spent[1][1]) == (0, 0)
    assert 0 < spent[2][1] < spent[3][1]
    assert spent[3][0] == spent[2][0]


def test_at_most_m_images_of_a_patient_take_part(tmp_path: Path) -> None:
    most = coordinator().study.privacy.max_images_per_patient
    many = patients(*"abcdefgh")
    data = SiteData(many.card, ("a",), many.owner * 0, many.images, many.labels)
    with opened(tmp_path, site=replace(hospital(), training=data)) as desk:
        assert len(desk.worker.site.training.images) == most == 4


# Charge first


class Untouchable:
    """Data that may not be looked at; `looked` says what was found out at that moment."""

    def __init__(self, look: Callable[[], float]) -> None:
        self.look = look
        self.looked: list[float] = []

    def __getattr__(self, name: str) -> Any:
        self.looked.append(self.look())
        raise CrashError

    def __len__(self) -> int:
        self.looked.append(self.look())
        raise CrashError


@pytest.mark.parametrize("number", [0, 1])
def test_the_ledger_is_charged_before_data_is_touched(desk: Desk, number: int) -> None:
    data: Any = Untouchable(lambda: desk.spent)
    desk.worker.site = replace(desk.worker.site, training=data)
    with pytest.raises(CrashError):
        desk.worker.answer(request(number))
    assert data.looked == [desk.spent]
    assert data.looked[0] > 0
    assert desk.kinds[-1] == "charge"
    assert desk.files == []


def test_what_is_refused_touches_no_data_and_spends_nothing(desk: Desk) -> None:
    data: Any = Untouchable(lambda: desk.spent)
    desk.worker.site = replace(desk.worker.site, training=data, held_out=data)
    refused = [
        (replace(request(0), plan="0" * 64), IntegrityError, "another privacy plan"),
        (replace(request(0), run="run-2"), IntegrityError, "another run than run-1"),
    ]
    for asked, error, why in refused:
        with pytest.raises(error, match=why):
            desk.worker.answer(asked)
    assert data.looked == []
    assert desk.spent == 0
    assert desk.kinds[-1] == "hold"


def test_a_request_that_lacks_something_is_not_charged_and_the_corrected_one_is_answered(desk: Desk) -> None:
    asked, entries = request(1), desk.kinds
    groups = {name: arrays for name, arrays in asked.groups.items() if name != "statistics"}
    with pytest.raises(RefusedError, match="groups: missing: statistics"):
        desk.worker.answer(replace(asked, groups=groups))
    assert (desk.kinds, desk.spent) == (entries, 0)
    desk.worker.answer(asked)
    assert desk.kinds == [*entries, "charge", "seal"]


def test_a_sealed_round_is_replayed_whatever_is_checked_of_requests_since(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.worker.answer(request(1))
    monkeypatch.setattr(desk.worker._incoming, "check", crash)
    assert same(desk.worker.answer(request(1)), first)
    with pytest.raises(CrashError):
        desk.worker.answer(request(2))


def test_where_the_charge_cannot_be_written_no_data_is_touched(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise LedgerError("disk full")

    monkeypatch.setattr(desk.ledger, "charge", full)
    monkeypatch.setattr(client.site, "local_round", crash)
    with pytest.raises(LedgerError, match="disk full"):
        desk.worker.answer(request(0))


# Replays


@pytest.mark.parametrize("number", range(5))
def test_the_same_request_replays_the_same_bytes_at_no_charge(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    first = desk.worker.answer(request(number))
    entries = desk.kinds
    monkeypatch.setattr(client.site, "local_round", crash)
    assert same(desk.worker.answer(request(number)), first)
    assert desk.kinds == entries


def test_a_restarted_site_replays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, random_for=Fresh()) as desk:
        desk.worker.approve()
        first = desk.worker.answer(request(1))
    monkeypatch.setattr(client.site, "local_round", crash)
    with opened(tmp_path, random_for=Fresh()) as desk:
        desk.worker.approve()
        assert same(desk.worker.answer(request(1)), first)


def test_another_request_in_the_same_round_is_refused_and_spends_nothing(desk: Desk) -> None:
    asked = request(1)
    first = desk.worker.answer(asked)
    spent, entries = desk.spent, desk.kinds
    changed = {name: array + 1 for name, array in asked.groups["generator"].items()}
    with pytest.raises(ReceiptError, match="charged for another request before"):
        desk.worker.answer(replace(asked, groups={**asked.groups, "generator": changed}))
    assert (desk.spent, desk.kinds) == (spent, entries)
    assert same(desk.worker.answer(asked), first)


def test_more_rounds_than_planned_are_refused(desk: Desk) -> None:
    for number in (1, 2):
        desk.worker.answer(request(number))
    spent = desk.spent
    with pytest.raises(BudgetError, match="more steps than held"):
        desk.worker.answer(replace(request(2), round=7))
    assert desk.spent == spent


def test_another_phase_of_the_same_round_does_not_overwrite_the_sealed_answer(desk: Desk) -> None:
    first = desk.worker.answer(request(4))
    other = replace(request(1), round=4)
    desk.worker.answer(other)
    assert same(desk.worker.answer(request(4)), first)


def sealed_file(desk: Desk, number: int, phase: Phase) -> Path:
    return desk.worker.folder / f"run-1-round-{number:06d}-{phase}.safetensors"


@pytest.mark.parametrize("damage", ["flipped", "gone", "of another round"])
def test_a_sealed_answer_that_was_tampered_with_is_refused(desk: Desk, damage: str) -> None:
    for number in (1, 2):
        desk.worker.answer(request(number))
    path = sealed_file(desk, 1, Phase.TRAIN)
    body = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(sealed_file(desk, 2, Phase.TRAIN).read_bytes())
    with pytest.raises(IntegrityError, match=path.name):
        desk.worker.answer(request(1))


# Crashes between charge and seal


@pytest.mark.parametrize("where", ["local_round", "save_groups", "seal"])
def test_a_crash_before_the_seal_is_repeated_at_no_new_charge(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger if where == "seal" else client.site, where, crash)
        with pytest.raises(CrashError):
            desk.worker.answer(request(0))
    spent = desk.spent
    assert spent > 0
    assert "seal" not in desk.kinds
    update = desk.worker.answer(request(0))
    assert desk.spent == spent == update.receipt.spent
    assert desk.kinds[-3:] == ["charge", "reopened", "seal"]
    assert same(desk.worker.answer(request(0)), update)


def test_a_repeated_round_has_fresh_noise(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[RoundResult] = []
    honest = local_round

    def compute_and_crash(*arguments: Any) -> Any:
        computed.append(honest(*arguments))
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(client.site, "local_round", compute_and_crash)
        with pytest.raises(CrashError):
            desk.worker.answer(request(0))
    update = desk.worker.answer(request(0))
    lost = computed[0].groups["statistics"]["embedding"]
    assert not np.isclose(update.groups["statistics"]["embedding"], lost).any()


@pytest.mark.parametrize("where", ["local_round", "save_groups"])
def test_a_killed_site_goes_on_at_no_new_charge(tmp_path: Path, where: str) -> None:
    command = [sys.executable, "-m", "tests.client.making", str(tmp_path), where]
    killed = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with opened(tmp_path, random_for=Fresh()) as desk:
        spent = desk.spent
        assert spent > 0
        desk.worker.approve()
        update = desk.worker.answer(request(0))
        assert desk.spent == spent == update.receipt.spent
        assert [kind for kind in desk.kinds if kind in ("charge", "reopened", "seal")] == [
            "charge",
            "reopened",
            "seal",
        ]


def test_nothing_leaves_before_it_is_on_disk_and_sealed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seal, seen = desk.ledger.seal, []

    def watched(receipt: Any, digest: str) -> Any:
        on_disk = load_groups(sealed_file(desk, 0, Phase.ONE_SHOT))[0]
        seen.append((on_disk, digest))
        return seal(receipt, digest)

    monkeypatch.setattr(desk.ledger, "seal", watched)
    update = desk.worker.answer(request(0))
    ((on_disk, digest),) = seen
    assert equal(on_disk, update.groups)
    assert digest == update.digest() == update.receipt.update_digest


def test_a_full_disk_lets_nothing_leave(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sealed").write_text("a file where the folder belongs")
    with pytest.raises(MedGANError, match="could not be saved"):
        desk.worker.answer(request(0))
    assert "seal" not in desk.kinds
    (tmp_path / "sealed").unlink()
    assert desk.worker.answer(request(0)).receipt.update_digest


# The discriminator stays at the site


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path, share="generator", random_for=Fresh()) as made:
        made.worker.approve()
        yield made


def watch(monkeypatch: pytest.MonkeyPatch) -> list[Groups]:
    """The local state with which each round begins."""
    began: list[Groups] = []
    honest = local_round

    def watched(study: Any, task: Any, plan: Any, site: Any, asked: Any, local: Groups, *rest: Any) -> Any:
        began.append(local)
        return honest(study, task, plan, site, asked, local, *rest)

    monkeypatch.setattr(client.site, "local_round", watched)
    return began


def local_file(desk: Desk, number: int) -> Path:
    return desk.worker.folder / f"run-1-round-{number:06d}-local.safetensors"


def test_only_the_generator_leaves_and_the_rest_stays(keeper: Desk) -> None:
    update = keeper.worker.answer(request(1, "generator"))
    assert update.groups.keys() == {"generator"}
    kept, _ = load_groups(local_file(keeper, 1))
    assert kept.keys() == {"discriminator", "momentum"}
    assert keeper.files == [local_file(keeper, 1).name, sealed_file(keeper, 1, Phase.TRAIN).name]


def test_the_next_round_goes_on_from_the_sites_own_discriminator(
    keeper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = watch(monkeypatch)
    for number in (1, 2):
        keeper.worker.answer(request(number, "generator"))
    assert began[0] == {}
    kept, _ = load_groups(local_file(keeper, 1))
    assert equal(began[1], kept)
    assert kept["momentum"].keys()
    first = weights_of(initial_discriminator(keeper.worker.task, Seeds(keeper.worker.study.seed)))
    assert not equal({"d": kept["discriminator"]}, {"d": first})


def test_a_rule_with_counters_survives_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, share="generator", rule="adam", random_for=Fresh()) as desk:
        desk.worker.approve()
        began = watch(monkeypatch)
        for number in (1, 2):
            desk.worker.answer(request(number, "generator", "adam"))
        steps = [array for name, array in began[1]["momentum"].items() if name.endswith(".step")]
        assert steps
        assert all(array.shape == () and array == desk.worker.plan.steps for array in steps)
        later = load_groups(local_file(desk, 2))[0]["momentum"]
        assert all(later[name] == 2 * desk.worker.plan.steps for name in later if name.endswith(".step"))


def test_a_repeated_round_begins_where_the_lost_one_began(
    keeper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.worker.answer(request(1, "generator"))
    began = watch(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(keeper.ledger, "seal", crash)  # its local state is on disk already
        with pytest.raises(CrashError):
            keeper.worker.answer(request(2, "generator"))
    keeper.worker.answer(request(2, "generator"))
    assert equal(began[0], began[1])


def test_what_an_attempt_kept_that_was_never_sealed_is_not_gone_on_from(
    keeper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(keeper.ledger, "seal", crash)  # its local state is on disk already
        with pytest.raises(CrashError):
            keeper.worker.answer(request(1, "generator"))
    assert local_file(keeper, 1).exists()
    began = watch(monkeypatch)
    keeper.worker.answer(request(2, "generator"))
    assert began == [{}]


def test_a_site_that_missed_a_round_goes_on_from_what_it_has(
    keeper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.worker.answer(request(1, "generator"))
    began = watch(monkeypatch)
    keeper.worker.answer(replace(request(2, "generator"), round=5))
    assert equal(began[0], load_groups(local_file(keeper, 1))[0])


def test_a_site_that_missed_the_first_round_begins_where_all_began(
    keeper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = watch(monkeypatch)
    assert keeper.worker.answer(request(2, "generator")).groups.keys() == {"generator"}
    assert began == [{}]


def test_a_damaged_discriminator_is_noticed(keeper: Desk) -> None:
    keeper.worker.answer(request(1, "generator"))
    path = local_file(keeper, 1)
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=path.name):
        keeper.worker.answer(request(2, "generator"))
    path.write_bytes(body)
    assert keeper.worker.answer(request(2, "generator")).receipt.update_digest


def test_with_both_shared_nothing_stays(desk: Desk) -> None:
    desk.worker.answer(request(1))
    assert desk.files == [sealed_file(desk, 1, Phase.TRAIN).name]


def test_two_runs_of_one_site_do_not_mix(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.worker.approve()
        first = desk.worker.answer(request(0))
        other = SiteWorker(desk.worker.study, hospital(), "run-2", desk.ledger, desk.worker.folder, Fresh())
        other.approve()
        second = other.answer(replace(request(0), run="run-2"))
        assert second.receipt.spent > first.receipt.spent
        with suppress(IntegrityError):
            other.answer(request(0))
        assert same(desk.worker.answer(request(0)), first)
        assert len(desk.files) == 2
