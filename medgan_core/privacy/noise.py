"""Secret randomness: the Gaussian noise, continuous or discrete, and the coins on which the guarantee rests.

The stream is ChaCha20 under a key that each process draws for itself from the operating system; the key is
never stored, checkpointed or derived from a study's seed. Gaussians are float64 and the sum of four samples,
which blunts attacks on the gaps of floating-point numbers (Holohan and Braghin 2021, "Secure Random Sampling
in Differential Privacy", https://arxiv.org/abs/2107.10138). Discrete Gaussians are exact samples by OpenDP
(Canonne, Kamath, Steinke 2020, https://arxiv.org/abs/2004.00010), from the operating system's random bytes.
"""

import math
import os
import queue
import threading
import weakref
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 1 << 16
_BLOCKS_AHEAD = 16
_SAMPLES = 4


class SecretRandom(Protocol):
    """A source of independent draws that nobody else can know."""

    def normal(self, count: int) -> Tensor:
        """Standard Gaussians, float64 [count]."""

    def uniform(self, count: int) -> Tensor:
        """Uniform draws in [0, 1), float64 [count]."""


@runtime_checkable
class DiscreteRandom(SecretRandom, Protocol):
    """A secret source that draws on a grid too, for secure sums."""

    def discrete(self, count: int, deviation: float) -> NDArray[np.int64]:
        """Discrete Gaussians of this deviation on the whole numbers, int64 [count]; 0 is no noise."""


class Keystream:
    """The process's own secret source; the default wherever privacy is asked for.

    Gaussian blocks are drawn ahead by a second thread, since they do not depend on data; the thread ends with
    the object or with the process. A forked process draws a new key, so that no two processes share noise.
    """

    def __init__(self) -> None:
        self._start()
        _ALIVE.add(self)

    def _start(self) -> None:
        """Forget all keys; the first draw makes new ones. Assignments alone, so that it cannot fail."""
        self._lock = threading.Lock()
        self._bytes: _Bytes | None = None
        self._rest: NDArray[np.float64] = np.empty(0)
        self._ahead: _Ahead | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret source is neither stored nor copied: its draws would be used twice")

    def normal(self, count: int) -> Tensor:
        """Standard Gaussians, float64 [count], each used once."""
        with self._lock:
            if self._ahead is None:
                self._ahead = _Ahead()
                weakref.finalize(self, self._ahead.stop)
            parts, missing = [self._rest], count - len(self._rest)
            while missing > 0:
                parts.append(self._ahead.block())
                missing -= _BLOCK
            stream = np.concatenate(parts)
            self._rest = stream[count:]
            return torch.from_numpy(stream[:count].copy())

    def uniform(self, count: int) -> Tensor:
        """Uniform draws in [0, 1), float64 [count]."""
        with self._lock:
            if self._bytes is None:
                self._bytes = _keystream()
            return torch.from_numpy(_uniform(self._bytes(8 * count)))

    def discrete(self, count: int, deviation: float) -> NDArray[np.int64]:
        """Exact discrete Gaussians, int64 [count], each used once."""
        return discrete_gaussian(count, deviation)


_ALIVE: "weakref.WeakSet[Keystream]" = weakref.WeakSet()


def _rekey_after_fork() -> None:
    """Runs in a forked process before anything else does: one thread, hence no race for the old key."""
    for source in _ALIVE:
        source._start()


os.register_at_fork(after_in_child=_rekey_after_fork)


class _Ahead:
    """A thread that keeps `_BLOCKS_AHEAD` Gaussian blocks ready under a key of its own.

    An assignment and the reentrant `SimpleQueue.put` stop it, so a garbage collection may do so anywhere.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._blocks: queue.SimpleQueue[NDArray[np.float64]] = queue.SimpleQueue()
        self._stopped = False
        for _ in range(_BLOCKS_AHEAD):
            self._orders.put(None)
        self._thread = threading.Thread(target=self._draw, name="medgan noise", daemon=True)
        self._thread.start()

    def block(self) -> NDArray[np.float64]:
        """The next block; another is ordered in its place."""
        self._orders.put(None)
        return self._blocks.get()

    def stop(self) -> None:
        """End the thread and wait for it: at exit, Python must not be torn down under a running thread."""
        self._stopped = True
        self._orders.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _draw(self) -> None:
        stream = _keystream()
        while not self._stopped:
            self._orders.get()
            if not self._stopped:
                self._blocks.put(_gaussian_block(stream))


class SeededRandom:
    """A predictable source with the same interface, for tests alone: it protects nobody.

    Only this constructor selects it: no setting, environment variable or message does.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, count: int) -> Tensor:
        """Gaussians, float64 [count]."""
        return torch.randn(count, generator=self._generator, dtype=torch.float64)

    def uniform(self, count: int) -> Tensor:
        """Uniform draws, float64 [count]."""
        return torch.rand(count, generator=self._generator, dtype=torch.float64)

    def discrete(self, count: int, deviation: float) -> NDArray[np.int64]:
        """Rounded Gaussians, int64 [count]."""
        drawn: NDArray[np.int64] = (self.normal(count) * deviation).round().long().numpy()
        return drawn


def discrete_gaussian(count: int, deviation: float) -> NDArray[np.int64]:
    """Discrete Gaussians on the whole numbers, int64 [count], from secret bytes; about 75,000 a second."""
    if deviation == 0:
        return np.zeros(count, np.int64)
    # Takes a second to import, and only secure sums need it.
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    noise = dp.m.make_gaussian(*space, scale=float(deviation))
    return np.array(noise([0] * count), dtype=np.int64)


def _keystream() -> "_Bytes":
    """A fresh ChaCha20 stream under a key from the operating system."""
    encryptor = Cipher(algorithms.ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor()
    return lambda count: encryptor.update(bytes(count))


class _Bytes(Protocol):
    def __call__(self, count: int, /) -> bytes: ...


def _gaussian_block(stream: _Bytes) -> NDArray[np.float64]:
    """Box–Muller on 53-bit uniforms; four independent samples are summed and rescaled to variance 1."""
    uniform = _uniform(stream(8 * _SAMPLES * _BLOCK)).reshape(2, _SAMPLES // 2, _BLOCK)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[0]))
    angle = 2.0 * math.pi * uniform[1]
    total: NDArray[np.float64] = (radius * (np.cos(angle) + np.sin(angle))).sum(axis=0)
    return total / math.sqrt(_SAMPLES)


def _uniform(stream: bytes) -> NDArray[np.float64]:
    """53-bit uniforms in [0, 1) from 8 bytes each."""
    return (np.frombuffer(stream, dtype="<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53
