"""A site's part in a secure sum: the server learns the sum of the sites' vectors modulo 2^64, and no vector.

Bonawitz et al. 2017, "Practical Secure Aggregation", https://eprint.iacr.org/2017/281, Figure 4. A party is a
frozen value; each function takes it one stage further and gives what the site sends:

    advertise  two fresh public keys, signed by the site's long-term key
    share      both own secrets in Shamir shares, one sealed pair for every other site
    receive    (nothing is sent) the shares of the others; all that can be checked before data is touched
    mask       the vector, under one mask with every other site and one of its own
    confirm    a signature over the list of the sites whose vectors the server has
    reveal     of a site in that list the share of its own mask, of one that is lost that of its pair masks

No stage can be repeated or left out, so nobody gets both shares of one site, or shares for a second list. All
that a site signs or seals is bound to the session and, from `confirm` on, to all that was sent before. What
does not fit is refused with RefusedError, by name of the stage and of the site that it is about.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from medgan_core.errors import RefusedError
from medgan_core.messages import Stage
from medgan_core.privacy import sum_keys
from medgan_core.privacy.sum_keys import KEY_BYTES, SIGNATURE_BYTES, Words
from medgan_core.privacy.sum_session import Session, chained

ADVERTISED_BYTES = 2 * KEY_BYTES + SIGNATURE_BYTES
_BYTES = ("seal_key", "mask_key", "seed", "agreed")
_BYTES_BY_NAME = ("seal_keys", "mask_keys", "seed_shares", "key_shares")


@dataclass(frozen=True)
class Party:
    """What a site knows between two stages. Everything in it is secret; `done` is the stage it has finished.

    `seal_key`, `mask_key` and `seed` are its own X25519 keys and the seed of its own mask; `seal_keys` and
    `mask_keys` the advertised public keys; `seed_shares` and `key_shares` its shares of the sites' seeds and
    mask keys; `agreed` the digest of all that everybody was sent.
    """

    session: Session = field(repr=False)
    name: str
    done: Stage
    seal_key: bytes = field(repr=False)
    mask_key: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    agreed: bytes = field(repr=False)
    seal_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    mask_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    seed_shares: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    key_shares: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    survivors: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict without the session, for whoever keeps a party between two messages, in memory."""
        kept: dict[str, Any] = {"name": self.name, "done": self.done, "survivors": list(self.survivors)}
        kept |= {name: getattr(self, name).hex() for name in _BYTES}
        return kept | {
            name: {site: value.hex() for site, value in getattr(self, name).items()}
            for name in _BYTES_BY_NAME
        }

    @classmethod
    def from_json(cls, session: Session, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave, in the same session."""
        read: dict[str, Any] = {name: bytes.fromhex(body[name]) for name in _BYTES}
        for name in _BYTES_BY_NAME:
            read[name] = {site: bytes.fromhex(value) for site, value in body[name].items()}
        known = {"name": body["name"], "done": Stage(body["done"]), "survivors": tuple(body["survivors"])}
        return cls(session=session, **known, **read)


def advertise(session: Session, name: str, signing_key: bytes) -> tuple[Party, bytes]:
    """Fresh keys for this session. The message: two public keys and a signature, 128 bytes."""
    seal_key, mask_key, seed = (sum_keys.new_secret() for _ in range(3))
    keys = sum_keys.public_of(seal_key) + sum_keys.public_of(mask_key)
    party = Party(session, name, Stage.ADVERTISE, seal_key, mask_key, seed, session.id)
    return party, keys + sum_keys.sign(signing_key, _advertised(session, name, keys))


def advertised_keys(session: Session, name: str, message: bytes) -> tuple[bytes, bytes]:
    """The keys for shares and masks that a site of the cohort advertised, after a check of its signature."""
    keys, signature = message[: 2 * KEY_BYTES], message[2 * KEY_BYTES :]
    signed = _advertised(session, name, keys)
    fits = len(message) == ADVERTISED_BYTES and name in session.cohort.keys
    if not fits or not sum_keys.signed_by(session.cohort.keys[name], signature, signed):
        raise RefusedError(f"secure sum, keys: those of site {name} are not signed by it for this session")
    return keys[:KEY_BYTES], keys[KEY_BYTES:]


def share(party: Party, advertised: Mapping[str, bytes]) -> tuple[Party, dict[str, bytes]]:
    """Check everybody's keys; a sealed pair of shares of own secrets for every other site by its name."""
    _in_turn(party, Stage.ADVERTISE, Stage.SHARE)
    session, rules = party.session, party.session.rules
    session.check_list("keys", tuple(advertised), session.cohort.keys, rules.survivors)
    keys = {name: advertised_keys(session, name, message) for name, message in advertised.items()}
    public = (sum_keys.public_of(party.seal_key), sum_keys.public_of(party.mask_key))
    if keys.get(party.name) != public:
        raise RefusedError(f"secure sum, keys: those of site {party.name} itself are missing or others")
    if len({key for pair in keys.values() for key in pair}) < 2 * len(keys):
        raise RefusedError("secure sum, keys: two of them are the same")
    count = len(session.cohort.keys)
    seeds = sum_keys.split(party.seed, rules.threshold, count)
    mask_keys = sum_keys.split(party.mask_key, rules.threshold, count)
    pairs = {name: (seeds[number], mask_keys[number]) for name, number in _numbers(session, keys)}
    moved = replace(
        party,
        done=Stage.SHARE,
        agreed=chained(party.agreed, advertised),
        seal_keys={name: pair[0] for name, pair in keys.items()},
        mask_keys={name: pair[1] for name, pair in keys.items()},
        seed_shares={party.name: pairs[party.name][0]},
        key_shares={party.name: pairs[party.name][1]},
    )
    return moved, {name: _sealed(moved, name, pair) for name, pair in pairs.items() if name != party.name}


def receive(party: Party, sealed: Mapping[str, Mapping[str, bytes]]) -> Party:
    """Take the shares of the others: `sealed` has what every site sent, by sender and receiver.

    The party stays in its stage: `mask` follows, and may be tried again. Nothing here depends on data.
    """
    _in_turn(party, Stage.SHARE, Stage.MASK)
    session = party.session
    session.check_list("shares", tuple(sealed), party.seal_keys, session.rules.survivors)
    if party.name not in sealed:
        raise RefusedError(f"secure sum, shares: site {party.name} is left out")
    opened = {
        sender: _opened(party, sender, messages.get(party.name))
        for sender, messages in sealed.items()
        if sender != party.name
    }
    flat = {json.dumps([s, r]): message for s, sent in sealed.items() for r, message in sent.items()}
    return replace(
        party,
        agreed=chained(party.agreed, flat),
        seed_shares={**party.seed_shares, **{name: pair[0] for name, pair in opened.items()}},
        key_shares={**party.key_shares, **{name: pair[1] for name, pair in opened.items()}},
    )


def mask(party: Party, vector: Words) -> tuple[Party, Words]:
    """The masked vector, uint64 [n], of a party that has received: uniform to all but `threshold` sites."""
    _in_turn(party, Stage.SHARE, Stage.MASK)
    if party.name not in party.seed_shares or len(party.seed_shares) < party.session.rules.survivors:
        raise RefusedError("secure sum, mask: the shares of the others have not come yet")
    total = vector.astype(np.uint64) + sum_keys.mask(party.seed, len(vector))
    for other in party.seed_shares:
        if other != party.name:
            total += pair_mask(
                party.session, party.name, party.mask_key, other, party.mask_keys[other], len(vector)
            )
    # The own keys have done their work: from here on only shares are needed.
    return replace(party, done=Stage.MASK, seal_key=b"", mask_key=b"", seed=b""), total


def pair_mask(session: Session, name: str, key: bytes, other: str, public: bytes, count: int) -> Words:
    """What `name` adds for the pair of it and `other`; the other way round it is the negative of this."""
    first, second = sorted((name, other))
    try:
        seed = sum_keys.agreed_key(key, public, session.purpose("mask", first, second))
    except ValueError:
        raise RefusedError(f"secure sum, mask: the key of site {other} is none") from None
    words = sum_keys.mask(seed, count)
    return words if name == first else np.uint64(0) - words


def confirm(party: Party, survivors: Sequence[str], signing_key: bytes) -> tuple[Party, bytes]:
    """Sign the list of the sites whose masked vectors the server says it has: one list in each session."""
    _in_turn(party, Stage.MASK, Stage.CONFIRM)
    session = party.session
    session.check_list("survivors", survivors, party.seed_shares, session.rules.survivors)
    if party.name not in survivors:
        raise RefusedError(f"secure sum, survivors: site {party.name} is left out")
    listed = tuple(sorted(survivors))
    signature = sum_keys.sign(signing_key, survivors_text(session, party.agreed, listed))
    return replace(party, done=Stage.CONFIRM, survivors=listed), signature


def survivors_text(session: Session, agreed: bytes, survivors: Sequence[str]) -> bytes:
    """What a site signs in `confirm`."""
    return session.purpose("survivors", agreed.hex(), *sorted(survivors))


def reveal(party: Party, signatures: Mapping[str, bytes]) -> tuple[Party, dict[str, bytes], dict[str, bytes]]:
    """Shares by site: of the seeds of the survivors, and of the mask keys of those that dropped out.

    `threshold` sites must have signed the same list as this one, after the same messages.
    """
    _in_turn(party, Stage.CONFIRM, Stage.REVEAL)
    session = party.session
    session.check_list("signatures", tuple(signatures), party.survivors, session.rules.threshold)
    text = survivors_text(session, party.agreed, party.survivors)
    for name, signature in signatures.items():
        if not sum_keys.signed_by(session.cohort.keys[name], signature, text):
            raise RefusedError(f"secure sum, signatures: site {name} signed another list of survivors")
    seeds = {name: party.seed_shares[name] for name in party.survivors}
    keys = {name: piece for name, piece in party.key_shares.items() if name not in seeds}
    return replace(party, done=Stage.REVEAL, seed_shares={}, key_shares={}), seeds, keys


def _in_turn(party: Party, after: Stage, asked: Stage) -> None:
    if party.done is not after:
        raise RefusedError(
            f"secure sum: {asked} was asked of a site that has finished {party.done}; each stage comes once, "
            "in its turn"
        )


def _advertised(session: Session, name: str, keys: bytes) -> bytes:
    return session.purpose("keys", name) + keys


def _numbers(session: Session, names: Mapping[str, object]) -> list[tuple[str, int]]:
    return [(name, session.cohort.number(name)) for name in names]


def _seal_secret(party: Party, sender: str, receiver: str) -> bytes:
    """The key under which `sender` sends to `receiver`; one of them is this party."""
    other = receiver if sender == party.name else sender
    try:
        purpose = party.session.purpose("seal", sender, receiver)
        return sum_keys.agreed_key(party.seal_key, party.seal_keys[other], purpose)
    except ValueError:
        raise RefusedError(f"secure sum, shares: the key of site {other} is none") from None


def _sealed(party: Party, receiver: str, pair: tuple[bytes, bytes]) -> bytes:
    context = party.session.purpose("shares", party.name, receiver)
    return sum_keys.seal(_seal_secret(party, party.name, receiver), pair[0] + pair[1], context)


def _opened(party: Party, sender: str, sealed: bytes | None) -> tuple[bytes, bytes]:
    context = party.session.purpose("shares", sender, party.name)
    opened = sealed and sum_keys.unseal(_seal_secret(party, sender, party.name), sealed, context)
    if not opened or len(opened) != 2 * KEY_BYTES:
        raise RefusedError(
            f"secure sum, shares: those of site {sender} are missing, damaged or of another session"
        )
    return opened[:KEY_BYTES], opened[KEY_BYTES:]
