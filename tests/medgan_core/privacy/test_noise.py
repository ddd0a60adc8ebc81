import copy
import gc
import math
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan_core.privacy import noise
from medgan_core.privacy.noise import Keystream, SeededRandom

REPOSITORY = Path(__file__).parents[3]
MANY = 400_000


def _normal_distribution(values: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(values / math.sqrt(2)))


def _kolmogorov(values: Tensor, distribution: Tensor) -> float:
    """√n times the largest distance of two distribution functions; above 3 with probability 3e-8."""
    steps = torch.arange(1, len(values) + 1, dtype=torch.float64) / len(values)
    return float((distribution - steps).abs().max()) * math.sqrt(len(values))


def _in_new_process(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_gaussians_have_the_standard_normal_distribution() -> None:
    draws = Keystream().normal(MANY)
    assert draws.dtype == torch.float64
    assert draws.shape == (MANY,)
    assert abs(float(draws.mean())) < 5 / math.sqrt(MANY)
    assert abs(float(draws.var()) - 1) < 5 * math.sqrt(2 / MANY)
    assert abs(float(draws.pow(3).mean())) < 5 * math.sqrt(15 / MANY)
    assert abs(float(draws.pow(4).mean()) - 3) < 5 * math.sqrt(96 / MANY)
    ordered = draws.sort().values
    assert _kolmogorov(ordered, _normal_distribution(ordered)) < 3


def test_neighbouring_gaussians_are_independent() -> None:
    draws = Keystream().normal(MANY)
    for apart in (1, 2, 3, noise._BLOCK // 2, noise._BLOCK):
        product = draws[apart:] * draws[:-apart]
        assert abs(float(product.mean())) < 5 / math.sqrt(len(product))
        squares = (draws[apart:].square() - 1) * (draws[:-apart].square() - 1)
        assert abs(float(squares.mean())) < 5 * 2 / math.sqrt(len(squares))


def test_coins_are_uniform_below_one() -> None:
    coins = Keystream().uniform(MANY)
    assert coins.dtype == torch.float64
    assert float(coins.min()) >= 0
    assert float(coins.max()) < 1
    ordered = coins.sort().values
    assert _kolmogorov(ordered, ordered) < 3


def test_coins_have_53_bits_and_never_reach_one() -> None:
    lowest, highest = noise._uniform(bytes(8) + b"\xff" * 8)
    assert lowest == 0
    assert highest == 1 - 2.0**-53
    assert noise._uniform((1 << 11).to_bytes(8, "little"))[0] == 2.0**-53


def test_each_gaussian_is_the_sum_of_four_box_muller_samples_rescaled() -> None:
    stream = np.random.default_rng(7).bytes(8 * 4 * noise._BLOCK)
    block = noise._gaussian_block(lambda count: stream[:count])
    uniforms = noise._uniform(stream).reshape(4, noise._BLOCK)
    samples = []
    for radius, angle in ((0, 2), (1, 3)):
        length = np.sqrt(-2 * np.log(1 - uniforms[radius]))
        turn = 2 * np.pi * uniforms[angle]
        samples += [length * np.cos(turn), length * np.sin(turn)]
    assert len(samples) == 4
    assert np.allclose(np.corrcoef(samples), np.eye(4), atol=0.02)  # 5 deviations
    assert np.allclose(block, sum(samples) / 2)


def test_extreme_uniforms_give_finite_gaussians() -> None:
    for byte in (b"\x00", b"\xff"):
        block = noise._gaussian_block(lambda count, byte=byte: byte * count)
        assert np.isfinite(block).all()


def test_no_draw_is_used_twice_whatever_the_sizes_of_the_calls() -> None:
    source = Keystream()
    sizes = [1, 0, 3, noise._BLOCK - 4, noise._BLOCK, 2 * noise._BLOCK + 1, 5, 70_000]
    parts = [source.normal(size) for size in sizes]
    assert [len(part) for part in parts] == sizes
    together = torch.cat(parts)
    assert len(together.unique()) == len(together)
    coins = torch.cat([source.uniform(size) for size in (1, 1000, 1)])
    assert len(coins.unique()) == len(coins)


def test_a_draw_in_the_caller_s_hands_does_not_change_later_draws() -> None:
    source = Keystream()
    source.normal(10).zero_()
    assert float(source.normal(10).abs().min()) > 0


def test_two_sources_share_no_draw() -> None:
    first, second = Keystream(), Keystream()
    assert len(torch.cat([first.normal(1000), second.normal(1000)]).unique()) == 2000
    assert len(torch.cat([first.uniform(1000), second.uniform(1000)]).unique()) == 2000


def test_threads_that_draw_at_once_share_no_draw() -> None:
    source = Keystream()
    with ThreadPoolExecutor(8) as pool:
        gaussians = torch.cat(list(pool.map(source.normal, [777] * 200)))
        coins = torch.cat(list(pool.map(source.uniform, [777] * 200)))
    assert len(gaussians.unique()) == len(coins.unique()) == 777 * 200


def test_a_global_seed_has_no_influence() -> None:
    draws = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            source = Keystream()
            draws += [source.normal(100), source.uniform(100)]
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[1], draws[3])


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    source = Keystream()
    source.normal(10)
    source.uniform(10)
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def urandom(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    monkeypatch.setattr("medgan_core.privacy.noise.os.urandom", urandom)
    source = Keystream()
    source.uniform(1)
    assert asked == [32]
    source.normal(1)
    assert asked == [32, 32]


_DRAW = "from medgan_core.privacy.noise import Keystream; s = Keystream();"


def test_two_processes_differ() -> None:
    code = f"{_DRAW} print(s.normal(4).tolist(), s.uniform(4).tolist())"
    assert _in_new_process(code) != _in_new_process(code)


_FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside a thread
from medgan_core.privacy.noise import Keystream
source = Keystream()
source.normal(3), source.uniform(3)
source._lock.acquire()  # as if another thread were drawing at this moment
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, repr((source.normal(5).tolist(), source.uniform(5).tolist())).encode())
    sys.exit(0)
source._lock.release()
print((source.normal(5).tolist(), source.uniform(5).tolist()))
assert os.waitpid(child, 0)[1] == 0
print(os.read(reading, 10000).decode())
"""


def test_a_forked_process_draws_a_new_key_even_while_a_thread_is_drawing() -> None:
    parent, child = _in_new_process(_FORK).splitlines()
    numbers = [set(re.findall(r"-?\d\.\d+(?:e-\d+)?", line)) for line in (parent, child)]
    assert len(numbers[0]) == len(numbers[1]) == 10
    assert not numbers[0] & numbers[1]


def test_a_process_ends_quietly_and_at_once_while_noise_is_drawn_ahead() -> None:
    assert _in_new_process(f"{_DRAW} print(len(s.normal(10)))") == "10\n"


def test_the_thread_that_draws_ahead_ends_with_its_source() -> None:
    source = Keystream()
    source.normal(1)
    thread = source._ahead._thread  # type: ignore[union-attr]
    assert thread.is_alive()
    assert thread.daemon
    del source
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_little_is_drawn_ahead() -> None:
    source = Keystream()
    source.normal(1)
    assert source._ahead is not None
    source._ahead._thread.join(0.5)
    assert source._ahead._blocks.qsize() <= noise._BLOCKS_AHEAD + 1


def test_a_source_without_gaussians_starts_no_thread() -> None:
    source = Keystream()
    source.uniform(10)
    assert source._ahead is None


def test_a_source_is_neither_stored_nor_copied() -> None:
    source = Keystream()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither stored nor copied"):
            attempt(source)


def test_no_product_code_names_the_seeded_source() -> None:
    named = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("medgan_core", "client", "server", "simulations")
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and b"SeededRandom" in path.read_bytes()
    }
    assert named == {"medgan_core/privacy/noise.py"}
    text = (REPOSITORY / "medgan_core/privacy/noise.py").read_text(encoding="utf-8")
    assert text.count("SeededRandom") == 1


def test_noise_depends_on_no_setting_or_variable() -> None:
    text = (REPOSITORY / "medgan_core/privacy/noise.py").read_text(encoding="utf-8")
    assert not re.search(r"os\.environ|getenv|config|[Ss]eeds\b", text.split('"""', 2)[2])


def test_the_seeded_source_for_tests_repeats() -> None:
    first, again, other = SeededRandom(1), SeededRandom(1), SeededRandom(2)
    draws = [(s.normal(5), s.uniform(5)) for s in (first, again, other)]
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[2][0])
    assert draws[0][0].dtype == draws[0][1].dtype == torch.float64
