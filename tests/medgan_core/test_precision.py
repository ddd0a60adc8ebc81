"""Which device runs its passes in half precision."""

import pytest
import torch

from medgan_core.config import Precision
from medgan_core.precision import halves


@pytest.mark.parametrize(
    ("precision", "features", "expected"),
    [
        ("float32", {"avx512_bf16": True}, False),
        ("bfloat16", {}, True),
        ("auto", {"avx512_bf16": True}, True),
        ("auto", {"amx_bf16": True}, True),
        ("auto", {"avx512_bf16": False, "avx512_f": True}, False),
        ("auto", {}, False),
    ],
)
def test_auto_is_half_precision_where_the_processor_is_made_for_it(
    precision: Precision, features: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert halves(precision, torch.device("cpu")) is expected
