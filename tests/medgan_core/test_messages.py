import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.messages import METRICS, Array, Event, Phase, Receipt, Request, Update, digest_groups

RECEIPT = Receipt(
    site="site-1",
    ledger="l",
    run="r",
    round=1,
    phase=Phase.TRAIN,
    request_digest="d",
    account="training",
    event=Event(1.5, 0.05, 100),
    spent=2.5,
    delta=1e-5,
    sequence=7,
    head="h",
)
ONES: Array = np.ones((2, 3), dtype=np.float32)


def groups(array: Array = ONES, name: str = "w", group: str = "g") -> dict[str, dict[str, Array]]:
    return {group: {name: array}}


@pytest.mark.parametrize("spent", [0.0, 2.5, math.inf])
@pytest.mark.parametrize("phase", list(Phase))
def test_a_receipt_survives_json(spent: float, phase: Phase) -> None:
    receipt = replace(RECEIPT, spent=spent, phase=phase, update_digest="u", signature="s")
    text = json.dumps(receipt.to_json(), allow_nan=False)
    read = Receipt.from_json(json.loads(text))
    assert read == receipt
    assert isinstance(read.phase, Phase)
    assert isinstance(read.event, Event)
    assert isinstance(read.spent, float)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": 5},
        {"sequence": "x"},
        {"sequence": True},
        {"round": 1.5},
        {"delta": "1e-5"},
        {"spent": "much"},
        {"account": ["training"]},
        {"query": None},
        {"event": {"noise_multiplier": "1", "sampling_rate": 0.05, "steps": 100}},
        {"event": {"noise_multiplier": 1.5, "sampling_rate": 0.05, "steps": None}},
        {"local_event": {"noise_multiplier": [], "sampling_rate": 1, "steps": 1}, "local_spent": 1.0},
    ],
)
def test_a_receipt_with_a_value_of_another_type_cannot_be_read(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Receipt.from_json(RECEIPT.to_json() | change)


def test_what_a_site_signs_is_all_of_a_receipt_and_survives_json() -> None:
    receipt = replace(RECEIPT, spent=math.inf, update_digest="u")
    signed = replace(receipt, signature="s")
    assert signed.message() == receipt.message()
    assert Receipt.from_json(json.loads(json.dumps(signed.to_json()))).message() == receipt.message()
    for change in ({"update_digest": "v"}, {"spent": 1.0}, {"head": "other"}, {"round": 9}):
        assert replace(receipt, **change).message() != receipt.message()


def test_an_infinite_epsilon_is_written_as_a_word() -> None:
    assert replace(RECEIPT, spent=math.inf).to_json()["spent"] == "inf"


def test_an_event_without_noise_is_infinite() -> None:
    assert Event(0.0, 1.0, 1).infinite
    assert not Event(0.1, 1.0, 1).infinite


@pytest.mark.parametrize(
    "other",
    [
        groups(name="v"),
        groups(group="h"),
        groups(ONES.astype(np.float64)),
        groups(ONES.astype(">f4")),
        groups(ONES.reshape(3, 2)),
        groups(ONES * 2),
        groups(-0.0 * ONES),
        groups(np.array(1.0, dtype=np.float32)),
        groups(np.array([1.0], dtype=np.float32)),
        {"g": {"w": ONES, "v": ONES}},
        {"g": {"w": ONES}, "h": {"w": ONES}},
        {"g/w": {"": ONES}},
        {},
    ],
)
def test_the_digest_depends_on_names_dtypes_shapes_and_bytes(other: Any) -> None:
    assert digest_groups(other) != digest_groups(groups())
    assert digest_groups(other, "head") != digest_groups(other)


def test_a_number_and_a_list_of_one_number_have_different_digests() -> None:
    assert digest_groups(groups(np.array(1.0))) != digest_groups(groups(np.array([1.0])))


def test_the_place_of_a_slash_matters() -> None:
    assert digest_groups({"a/b": {"c": ONES}}) != digest_groups({"a": {"b/c": ONES}})


def test_a_name_cannot_pretend_to_be_another_tensor() -> None:
    empty = np.zeros(0, dtype=np.float32)
    two = {"g": {"a": empty, "b": empty}}
    names = [f'a", "<f4", [0]]\n\n["g", "b{end}' for end in ("", '"')]
    assert all(digest_groups(two) != digest_groups({"g": {name: empty}}) for name in names)


def test_the_digest_does_not_depend_on_order_or_memory_layout() -> None:
    one = {"a": {"x": ONES, "y": ONES * 2}, "b": {"z": ONES}}
    other = {"b": {"z": ONES}, "a": {"y": ONES * 2, "x": np.asfortranarray(ONES)}}
    assert digest_groups(one) == digest_groups(other)


def test_the_digest_does_not_change_between_versions() -> None:
    assert digest_groups(groups()) == "80fd5bac3532f87f905fd011f4caebef01bf24f3d3a9f8a92872e9a0d611b580"


@given(st.permutations(["a", "b", "c", "d"]))
def test_any_order_of_names_gives_the_same_digest(names: list[str]) -> None:
    arrays = {name: np.full(2, ord(name)) for name in names}
    straight = {name: arrays[name] for name in sorted(names)}
    assert digest_groups({"g": arrays}) == digest_groups({"g": straight})


def test_the_digest_of_a_request_binds_run_round_phase_plan_and_state() -> None:
    request = Request("r", 1, Phase.TRAIN, "p", groups())
    others = [
        replace(request, run="q"),
        replace(request, round=2),
        replace(request, phase=Phase.EVALUATE),
        replace(request, plan="q"),
        replace(request, groups=groups(ONES * 2)),
        replace(request, run="r\n1", round=1),
    ]
    assert request.digest() == replace(request).digest()
    assert len({request.digest(), *(other.digest() for other in others)}) == 1 + len(others)


def test_the_digest_of_an_update_binds_all_but_the_receipt() -> None:
    update = Update("s", 1, Phase.TRAIN, groups(), {"a": 1.0, "b": 2.0}, RECEIPT)
    others = [
        replace(update, site="t"),
        replace(update, round=2),
        replace(update, phase=Phase.EVALUATE),
        replace(update, groups=groups(ONES * 2)),
        replace(update, metrics={"a": 1.0}),
        replace(update, metrics={"a": 1.0, "b": 2.5}),
    ]
    assert len({update.digest(), *(other.digest() for other in others)}) == 1 + len(others)
    same = replace(update, metrics={"b": 2.0, "a": 1.0}).sealed(replace(RECEIPT, update_digest="u"))
    assert same.receipt.update_digest == "u"
    assert same.digest() == update.digest()


def test_only_training_lets_metrics_leave_and_none_is_of_real_images() -> None:
    assert set(METRICS) == set(Phase)
    assert METRICS[Phase.ONE_SHOT] == METRICS[Phase.GATE] == METRICS[Phase.EVALUATE] == frozenset()
    assert METRICS[Phase.TRAIN] == {
        "generator_loss",
        "discriminator_accuracy_on_fakes",
        "discriminator_steps",
    }


def test_a_thin_client_loads_no_torch() -> None:
    modules = ["messages", "config", "errors", "seeds"]
    code = "\n".join(f"import medgan_core.{name}" for name in modules)
    code += "\nimport sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
