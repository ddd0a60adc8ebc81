"""What a training round takes of a coordinator's memory: four models at most, for any number of sites."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan_core.gan.ema import ema
from medgan_core.messages import Groups, Phase, Update
from medgan_core.sections import AggregationConfig
from server import parts
from server.aggregate import check_norm
from server.momentum import moved
from server.robust import combined
from server.spill import Spill

MODEL = 2 * 2**20
RECEIPT: Any = None


def model(seed: int) -> Groups:
    random = np.random.default_rng(seed)
    return {
        name: {f"w{i}": random.standard_normal(MODEL // 4 // 8, np.float32) for i in range(4)}
        for name in ("generator", "discriminator")
    }


def a_round(asked: AggregationConfig, before: Groups, sites: int, folder: Path) -> int:
    """The peak of bytes beyond those of the state before."""
    tracemalloc.start()
    try:
        with Spill(folder) as spill:
            updates = []
            for number in range(sites):
                update = Update(f"s{number:03d}", 1, Phase.TRAIN, model(number), {}, RECEIPT)
                update.digest()
                check_norm(update, before, 1e9)
                updates.append(spill.keep(update))
                del update
            found, _ = combined(asked, updates, {u.site: 1.0 for u in updates}, before)
            after = moved(asked, before, found)
            ema(before["generator"], after["generator"], 0.9)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rule", ["mean", "median", "trimmed_mean", "krum"])
def test_memory_is_four_models_at_most_for_any_number_of_sites(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.aggregate.each_part", lambda like, work: parts.each_part(like, work, 4096))
    monkeypatch.setattr("server.robust.part_of", lambda sites: 2**16 // sites)
    asked = AggregationConfig.model_validate({"rule": rule, "momentum": 0.9})
    before = model(99)
    few, many = (a_round(asked, before, sites, tmp_path / str(sites)) for sites in (5, 40))
    assert few <= 4 * MODEL
    assert many <= few + MODEL // 4
