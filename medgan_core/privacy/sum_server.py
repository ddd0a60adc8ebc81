"""The coordinator's arithmetic of a secure sum: check what came, and take the masks off the sum.

It holds no secret. What does not fit raises RoundError by the name of the site; nothing here is trusted by a
site. Bonawitz et al. 2017, https://eprint.iacr.org/2017/281, Figure 4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from medgan_core.errors import RoundError
from medgan_core.privacy import sum_keys
from medgan_core.privacy.secure_sum import pair_mask
from medgan_core.privacy.sum_keys import Words
from medgan_core.privacy.sum_session import Session


@dataclass(frozen=True)
class Revealed:
    """The shares that one site gave: of seeds and of mask keys, by the site they are about."""

    seeds: Mapping[str, bytes]
    keys: Mapping[str, bytes]


def unmasked(
    session: Session,
    mask_keys: Mapping[str, bytes],
    shared: Iterable[str],
    masked: Mapping[str, Words],
    revealed: Mapping[str, Revealed],
) -> Words:
    """The sum of the vectors in `masked`, modulo 2^64: uint64 [n].

    `mask_keys` are the advertised public keys, `shared` the sites whose shares went out; those of them
    without a masked vector dropped out. Raises RoundError where the shares do not fit the keys.
    """
    vectors = list(masked.values())
    count = len(vectors[0])
    total: Words = np.sum(vectors, axis=0, dtype=np.uint64)
    for name in masked:
        total -= sum_keys.mask(_secret(session, name, {n: r.seeds for n, r in revealed.items()}), count)
    for lost in set(shared) - masked.keys():
        key = _secret(session, lost, {n: r.keys for n, r in revealed.items()})
        if sum_keys.public_of(key) != mask_keys[lost]:
            raise RoundError(f"secure sum: the shares of the key of site {lost} do not fit its public key")
        for name in masked:
            # What the survivor added is the negative of what the lost site would have added.
            total += pair_mask(session, lost, key, name, mask_keys[name], count)
    return total


def _secret(session: Session, about: str, shares: Mapping[str, Mapping[str, bytes]]) -> bytes:
    given = {session.cohort.number(name): pieces[about] for name, pieces in shares.items() if about in pieces}
    if len(given) < session.rules.threshold:
        raise RoundError(
            f"secure sum: {len(given)} shares of site {about}, needed are {session.rules.threshold}"
        )
    first = sorted(given)[: session.rules.threshold]
    return sum_keys.combine({number: given[number] for number in first})
