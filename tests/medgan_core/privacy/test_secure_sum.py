"""Each promise of a secure sum, and who is refused when it is broken."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.errors import MedGANError, RefusedError, RoundError
from medgan_core.messages import Stage
from medgan_core.privacy import secure_sum, sum_keys
from medgan_core.privacy.secure_sum import Party
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_server import Revealed, unmasked
from medgan_core.privacy.sum_session import Cohort
from tests.medgan_core.privacy.sum_cases import (
    Lost,
    Relay,
    cohort,
    names,
    relay,
    session,
    signing_key,
    vectors,
)


def plain(of: Relay) -> list[int]:
    """The sum of the vectors that came, modulo 2^64."""
    return [sum(int(of.vectors[name][i]) for name in of.masked) % 2**64 for i in range(5)]


# The sum


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_the_server_gets_the_sum_modulo_2_to_the_64(count: int) -> None:
    whole = relay(count, None)
    assert whole.total().tolist() == plain(whole)
    assert len(whole.masked) == count


@pytest.mark.parametrize("stage", Stage)
def test_one_drop_out_in_any_stage_leaves_the_sum_of_those_whose_vector_came(stage: Stage) -> None:
    left = relay(4, 1, lost={stage: ["site-2"]})
    assert ("site-2" in left.masked) == (stage in (Stage.CONFIRM, Stage.REVEAL))
    assert left.total().tolist() == plain(left)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(Stage), min_size=2, max_size=2))
def test_ten_sites_survive_any_two_drop_outs(stages: list[Stage]) -> None:
    lost: Lost = {stage: [f"site-{3 + i}" for i, s in enumerate(stages) if s is stage] for stage in stages}
    left = relay(10, None, lost=lost)
    assert left.total().tolist() == plain(left)


def test_a_smaller_cohort_sums_by_the_same_rules() -> None:
    """A repeat without the site that is down: nobody else may be missing then."""
    fewer = replace(session(5, 1), cohort=cohort(4))
    whole = Relay(fewer, vectors(4)).run()
    assert whole.total().tolist() == plain(whole)
    with pytest.raises(RefusedError, match="3 sites are left, needed are 4"):
        Relay(fewer, vectors(4), {Stage.MASK: ["site-2"]}).run()


@pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.SHARE, Stage.MASK])
def test_one_drop_out_too_many_stops_every_site_before_its_shares_are_given(stage: Stage) -> None:
    with pytest.raises(RefusedError, match="2 sites are left, needed are 3"):
        relay(4, 1, lost={stage: ["site-2", "site-3"]})


def test_shares_below_the_threshold_do_not_open_the_sum() -> None:
    short = relay(4, 1)
    del short.revealed["site-1"], short.revealed["site-2"]
    with pytest.raises(RoundError, match="2 shares of site site-1, needed are 3"):
        short.total()


def test_shares_of_a_lost_key_that_do_not_fit_it_are_found_out() -> None:
    left = relay(4, 1, lost={Stage.MASK: ["site-4"]})
    given_ = left.revealed["site-1"]
    left.revealed["site-1"] = Revealed(given_.seeds, {"site-4": bytes(32)})
    with pytest.raises(RoundError, match="site-4 do not fit"):
        left.total()


# What the server sees


def test_a_masked_vector_is_uniform_whatever_the_vector_and_the_sum_is_right() -> None:
    size = 20_000
    zeros = dict.fromkeys(names(4), np.zeros(size, np.uint64))
    seen = Relay(session(4), zeros).run()
    assert not seen.total().any()
    for words in seen.masked.values():
        counts = np.bincount(words.view(np.uint8), minlength=256)
        expected = 8 * size / 256
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert 255 - 6 * 22.6 < chi_square < 255 + 6 * 22.6  # 255 degrees of freedom, deviation √510
    assert abs(np.corrcoef([w.astype(float) for w in seen.masked.values()])[0, 1:]).max() < 5 / size**0.5


def test_where_all_others_help_the_server_the_site_s_own_mask_still_hides_it() -> None:
    at = relay(3, 0, until=Stage.SHARE)
    party = secure_sum.receive(at.parties["site-1"], at.sealed)
    _, left = secure_sum.mask(party, at.vectors["site-1"])
    for other in ("site-2", "site-3"):
        key = at.parties[other].mask_key
        left += secure_sum.pair_mask(at.session, other, key, "site-1", party.mask_keys["site-1"], 5)
    assert not np.any(left == at.vectors["site-1"])
    assert np.array_equal(left - sum_keys.mask(party.seed, 5), at.vectors["site-1"])


def test_no_two_sessions_share_a_mask() -> None:
    first, second = relay(3, 0), relay(3, 0)
    assert not any(np.any(first.masked[name] == second.masked[name]) for name in first.masked)


def test_relayed_shares_can_be_read_by_their_receiver_alone() -> None:
    at = relay(until=Stage.SHARE)
    sealed = at.sealed["site-1"]["site-2"]
    for stranger in ("site-3", "site-4"):
        swapped = {**at.sealed, "site-1": {**at.sealed["site-1"], stranger: sealed}}
        with pytest.raises(RefusedError, match="site-1 are missing, damaged or of another session"):
            secure_sum.receive(at.parties[stranger], swapped)


# An active server


def at_confirm(count: int = 4, drop: int = 1) -> Relay:
    return relay(count, drop, until=Stage.CONFIRM)


def test_unequal_lists_of_survivors_open_nothing() -> None:
    """The server tells two sites that site-4 is lost, and the others that all are there."""
    at = relay(until=Stage.MASK)
    lists = {name: names(4) if name in ("site-3", "site-4") else names(3) for name in names(4)}
    signed = {}
    for name, party in at.parties.items():
        at.parties[name], signed[name] = secure_sum.confirm(party, lists[name], signing_key(name))
    for name in ("site-1", "site-2", "site-3"):
        among = {other: signed[other] for other in lists[name]}
        with pytest.raises(RefusedError, match=r"site site-\d signed another list of survivors"):
            secure_sum.reveal(at.parties[name], among)
        same = {other: s for other, s in signed.items() if lists[other] == lists[name]}
        with pytest.raises(RefusedError, match="2 sites are left, needed are 3"):
            secure_sum.reveal(at.parties[name], same)


def test_no_two_lists_can_both_be_signed_by_a_threshold() -> None:
    """2T > K + collude: colluding sites sign both lists, each honest one a single list."""
    for sites, collude in product(range(3, 40), range(1, 8)):
        try:
            rules = SumRules.of(sites, collude)
        except MedGANError:
            continue
        assert 2 * (rules.threshold - collude) > sites - collude


def test_of_one_site_a_share_of_its_seed_or_of_its_key_is_given_and_never_both() -> None:
    at = relay(10, 2, lost={Stage.MASK: ["site-9"]})
    for given_ in at.revealed.values():
        assert given_.seeds.keys() == at.masked.keys()
        assert given_.keys.keys() == {"site-9"}
        assert not given_.seeds.keys() & given_.keys.keys()


def test_a_second_list_is_not_signed_and_nothing_is_revealed_twice() -> None:
    at = at_confirm()
    party = at.parties["site-1"]
    with pytest.raises(RefusedError, match=r"confirm was asked .* each stage comes once"):
        secure_sum.confirm(party, names(3), signing_key("site-1"))
    revealed, _, _ = secure_sum.reveal(party, at.signatures)
    with pytest.raises(RefusedError, match=r"reveal was asked .* each stage comes once"):
        secure_sum.reveal(revealed, at.signatures)
    assert not revealed.seed_shares
    assert not revealed.key_shares


@pytest.mark.parametrize(
    ("survivors", "reason"),
    [
        (("site-1", "site-2"), "2 sites are left, needed are 3"),
        (("site-1", "site-2", "site-2"), "a site is listed twice"),
        (("site-1", "site-2", "site-9"), "site-9 did not come this far"),
        (("site-2", "site-3", "site-4"), "site site-1 is left out"),
    ],
)
def test_a_list_of_survivors_that_cannot_be_is_not_signed(survivors: Sequence[str], reason: str) -> None:
    at = relay(until=Stage.MASK)
    with pytest.raises(RefusedError, match=reason):
        secure_sum.confirm(at.parties["site-1"], survivors, signing_key("site-1"))


def test_a_site_that_sent_no_shares_is_not_called_a_survivor() -> None:
    at = relay(until=Stage.MASK, lost={Stage.SHARE: ["site-4"]})
    with pytest.raises(RefusedError, match="site-4 did not come this far"):
        secure_sum.confirm(at.parties["site-1"], names(4), signing_key("site-1"))


def test_too_few_signatures_open_nothing() -> None:
    at = at_confirm()
    few = {name: at.signatures[name] for name in names(2)}
    with pytest.raises(RefusedError, match="2 sites are left, needed are 3"):
        secure_sum.reveal(at.parties["site-1"], few)


def test_swapped_keys_are_refused() -> None:
    """The server puts its own keys in the place of a site's: it has no signature for them."""
    at = relay(until=Stage.ADVERTISE)
    own = sum_keys.public_of(bytes(32)) + sum_keys.public_of(bytes(31) + b"1")
    for forged in (
        own + at.advertised["site-2"][64:],
        own + sum_keys.sign(bytes(32), own),
        at.advertised["site-3"],
        at.advertised["site-2"][:-1],
        b"",
    ):
        with pytest.raises(RefusedError, match="those of site site-2 are not signed by it"):
            secure_sum.share(at.parties["site-1"], at.advertised | {"site-2": forged})


def test_own_keys_that_come_back_changed_are_noticed() -> None:
    at = relay(until=Stage.ADVERTISE)
    _, other = secure_sum.advertise(at.session, "site-1", signing_key("site-1"))
    for advertised in (at.advertised | {"site-1": other}, {n: at.advertised[n] for n in names(4)[1:]}):
        with pytest.raises(RefusedError, match="those of site site-1 itself"):
            secure_sum.share(at.parties["site-1"], advertised)


def test_a_site_that_copies_the_keys_of_another_is_noticed() -> None:
    at = relay(until=Stage.ADVERTISE)
    keys = at.advertised["site-1"][:64]
    copied = keys + sum_keys.sign(signing_key("site-2"), at.session.purpose("keys", "site-2") + keys)
    with pytest.raises(RefusedError, match="two of them are the same"):
        secure_sum.share(at.parties["site-3"], at.advertised | {"site-2": copied})


def test_a_stranger_may_not_advertise() -> None:
    at = relay(until=Stage.ADVERTISE)
    with pytest.raises(RefusedError, match="mallory did not come this far"):
        secure_sum.share(at.parties["site-1"], at.advertised | {"mallory": bytes(128)})


def test_a_key_of_small_order_is_refused_by_name() -> None:
    at = relay(until=Stage.ADVERTISE)
    keys = bytes(32) + at.advertised["site-2"][32:64]
    weak = keys + sum_keys.sign(signing_key("site-2"), at.session.purpose("keys", "site-2") + keys)
    with pytest.raises(RefusedError, match="the key of site site-2 is none"):
        secure_sum.share(at.parties["site-1"], at.advertised | {"site-2": weak})


Replay = Callable[[Relay, Relay], object]


def old_keys(now: Relay, old: Relay) -> object:
    return secure_sum.share(now.parties["site-1"], now.advertised | {"site-2": old.advertised["site-2"]})


def old_shares(now: Relay, old: Relay) -> object:
    return secure_sum.receive(now.parties["site-1"], now.sealed | {"site-2": old.sealed["site-2"]})


def old_signature(now: Relay, old: Relay) -> object:
    signatures = now.signatures | {"site-2": old.signatures["site-2"]}
    return secure_sum.reveal(now.parties["site-1"], signatures)


@pytest.mark.parametrize(
    ("until", "replay", "change"),
    [
        (Stage.ADVERTISE, old_keys, {"attempt": 1}),
        (Stage.ADVERTISE, old_keys, {"nonce": "m"}),
        *((Stage.SHARE, old_shares, change) for change in ({"attempt": 1}, {"nonce": "m"}, {})),
        *((Stage.CONFIRM, old_signature, change) for change in ({"attempt": 1}, {"nonce": "m"}, {})),
    ],
)
def test_messages_of_another_session_are_refused(
    until: Stage, replay: Replay, change: Mapping[str, int | str]
) -> None:
    """Even where attempt and nonce are the same again, as a site that was restarted would see them."""
    base = session(4)
    now = Relay(base, vectors(4)).run(until)
    old = Relay(replace(base, **change), vectors(4)).run()  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="site-2"):
        replay(now, old)


def test_a_session_is_of_its_run_round_query_attempt_nonce_cohort_and_rules() -> None:
    base = session(5)
    others = [
        replace(base, run="other"),
        replace(base, round=1),
        replace(base, query="other"),
        replace(base, attempt=1),
        replace(base, nonce="m"),
        replace(base, cohort=cohort(4)),
        replace(base, rules=SumRules.of(5, 1, 0)),
    ]
    assert len({base.id, *(other.id for other in others)}) == 8


def test_sites_that_were_told_other_keys_do_not_sign_for_each_other() -> None:
    """The server shows site-4's keys to some sites only: what was agreed before is in the signature."""
    at = relay(until=Stage.ADVERTISE)
    fewer = {name: at.advertised[name] for name in names(3)}
    shown = {"site-1": fewer, "site-2": fewer, "site-3": at.advertised}
    for name, advertised in shown.items():
        at.parties[name], at.sealed[name] = secure_sum.share(at.parties[name], advertised)
    del at.parties["site-4"]
    at._mask(())
    at._confirm(())
    with pytest.raises(RefusedError, match="site site-3 signed another list"):
        secure_sum.reveal(at.parties["site-1"], at.signatures)


def test_sites_that_were_told_of_other_shares_do_not_sign_for_each_other() -> None:
    """The server keeps site-4's shares from one site: the two would reveal for different sums."""
    at = relay(until=Stage.SHARE)
    fewer = {name: at.sealed[name] for name in names(3)}
    shown = {"site-1": at.sealed, "site-2": at.sealed, "site-3": fewer}
    for name, sealed in shown.items():
        party = secure_sum.receive(at.parties[name], sealed)
        at.parties[name], at.masked[name] = secure_sum.mask(party, at.vectors[name])
    del at.parties["site-4"]
    at._confirm(())
    with pytest.raises(RefusedError, match="site site-3 signed another list"):
        secure_sum.reveal(at.parties["site-1"], at.signatures)


@pytest.mark.parametrize("asked", list(Stage)[1:])
@pytest.mark.parametrize("done", Stage)
def test_stages_come_in_their_order_and_once(done: Stage, asked: Stage) -> None:
    at = relay(until=done)
    party = at.parties["site-1"]
    calls: dict[Stage, Callable[[], object]] = {
        Stage.SHARE: lambda: secure_sum.share(party, at.advertised),
        Stage.MASK: lambda: secure_sum.receive(party, at.sealed),
        Stage.CONFIRM: lambda: secure_sum.confirm(party, names(4), signing_key("site-1")),
        Stage.REVEAL: lambda: secure_sum.reveal(party, at.signatures),
    }
    order = list(Stage)
    if order.index(asked) == order.index(done) + 1:
        calls[asked]()
        return
    with pytest.raises(RefusedError, match=f"{asked} was asked of a site that has finished {done}"):
        calls[asked]()


def test_no_vector_is_masked_before_the_shares_of_the_others_came() -> None:
    at = relay(until=Stage.SHARE)
    with pytest.raises(RefusedError, match="have not come yet"):
        secure_sum.mask(at.parties["site-1"], at.vectors["site-1"])


def test_missing_or_damaged_shares_are_refused_by_the_name_of_their_sender() -> None:
    at = relay(until=Stage.SHARE)
    good = at.sealed["site-3"]["site-1"]
    for bad in (None, b"", good[:-1], bytes([good[0] ^ 1]) + good[1:]):
        sent = {k: v for k, v in at.sealed["site-3"].items() if k != "site-1"}
        sent |= {} if bad is None else {"site-1": bad}
        with pytest.raises(RefusedError, match="those of site site-3 are missing, damaged"):
            secure_sum.receive(at.parties["site-1"], at.sealed | {"site-3": sent})


# The cohort


def test_a_cohort_is_of_pinned_keys_alone() -> None:
    pinned, rules = cohort(4), SumRules.of(4, 1, 1)
    pinned.check(pinned, "site-1", rules)
    cohort(3).check(pinned, "site-1", rules)
    swapped = Cohort({**pinned.keys, "site-2": sum_keys.verify_key_of(bytes(32))})
    with pytest.raises(RefusedError, match="the key of site site-2 is not the one pinned here"):
        swapped.check(pinned, "site-1", rules)
    with pytest.raises(RefusedError, match="site-4 is not among the sites pinned here"):
        pinned.check(cohort(3), "site-1", rules)
    with pytest.raises(RefusedError, match="site-4 is not in the cohort"):
        cohort(3).check(pinned, "site-4", rules)
    with pytest.raises(RefusedError, match="a cohort of 2 sites, needed are 3"):
        cohort(2).check(pinned, "site-1", rules)
    with pytest.raises(RefusedError, match="a cohort of 4 sites, needed are 5"):
        cohort(4).check(pinned, "site-1", SumRules.of(5, 1, 0))


def test_one_key_under_two_names_is_no_cohort() -> None:
    """A server that is two sites at once would hold two shares."""
    doubled = Cohort({**cohort(3).keys, "site-4": cohort(3).keys["site-3"]})
    with pytest.raises(RefusedError, match="with different keys"):
        doubled.check(doubled, "site-1", SumRules.of(4, 1, 1))


def test_a_cohort_and_a_party_survive_json() -> None:
    assert Cohort.from_json(json.loads(json.dumps(cohort(3).to_json()))) == cohort(3)
    for stage in Stage:
        at = relay(until=stage)
        for party in at.parties.values():
            assert Party.from_json(at.session, json.loads(json.dumps(party.to_json()))) == party


def test_a_party_forgets_its_keys_when_they_have_done_their_work_and_shows_none_of_them() -> None:
    at = relay(until=Stage.MASK)
    party = at.parties["site-1"]
    assert (party.seal_key, party.mask_key, party.seed) == (b"", b"", b"")
    hidden = {item.name for item in fields(Party) if not item.repr}
    assert hidden >= {"seal_key", "mask_key", "seed", "seed_shares", "key_shares"}


def test_keys_are_new_in_every_session() -> None:
    first, _ = secure_sum.advertise(session(), "site-1", signing_key("site-1"))
    second, _ = secure_sum.advertise(session(), "site-1", signing_key("site-1"))
    assert len({first.seal_key, first.mask_key, first.seed} | {second.seal_key, second.mask_key}) == 5


def test_the_server_needs_nothing_secret() -> None:
    """All that `unmasked` is given went over the wire."""
    done = relay(4, 1, lost={Stage.MASK: ["site-2"]})
    mask_keys = {name: message[32:64] for name, message in done.advertised.items()}
    public = replace(done.session)
    assert unmasked(public, mask_keys, done.sealed, done.masked, done.revealed).tolist() == plain(done)
