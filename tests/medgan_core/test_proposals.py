"""Proposals and what sites say to them come back as they were, and an approval binds what it must."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.envelope import (
    Envelope,
    answer_from_envelope,
    answer_to_envelope,
    asked_from_envelope,
    asked_to_envelope,
)
from medgan_core.errors import UpdateError
from medgan_core.proposals import Farewell, Proposal, Standing

TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PROPOSAL = Proposal("run", {"name": "x", "rounds": 1}, {"a": "00", "b": "11"}, {"a": {"sequence": 3}})


@given(TEXT, st.dictionaries(TEXT, JSON, max_size=3), st.dictionaries(TEXT, TEXT, max_size=3))
def test_a_proposal_comes_back_as_it_was(run: str, study: dict[str, Any], sites: dict[str, str]) -> None:
    proposal = Proposal(run, study, sites, {"a": {"head": "h", "sequence": 3}})
    assert asked_from_envelope(asked_to_envelope(proposal)) == proposal


@given(
    TEXT, TEXT, st.sampled_from(["approved", "waiting", "refused"]), st.dictionaries(TEXT, JSON, max_size=3)
)
def test_a_standing_comes_back_as_it_was(site: str, reason: str, answer: str, card: dict[str, Any]) -> None:
    standing = Standing(site, "digest", answer, reason, "plan", card, "00")
    assert answer_from_envelope(answer_to_envelope(standing)) == standing
    assert standing.approved == (answer == "approved")


def test_a_farewell_comes_back_as_it_was() -> None:
    farewell = Farewell("run", "stopped")
    assert asked_from_envelope(asked_to_envelope(farewell)) == farewell


@pytest.mark.parametrize(
    "other",
    [
        replace(PROPOSAL, run="another"),
        replace(PROPOSAL, study={"name": "x", "rounds": 2}),
        replace(PROPOSAL, sites={"a": "00", "b": "22"}),
    ],
)
def test_the_digest_binds_run_study_and_keys(other: Proposal) -> None:
    assert other.digest() != PROPOSAL.digest()


def test_a_newer_witness_needs_no_new_approval() -> None:
    assert replace(PROPOSAL, witnesses={}).digest() == PROPOSAL.digest()


@pytest.mark.parametrize("field", ["site", "proposal", "answer", "reason", "plan", "card"])
def test_the_signature_covers_all_that_a_site_says(field: str) -> None:
    standing = Standing("a", "digest", "approved")
    other: dict[str, Any] = {field: {"classes": ["x"]} if field == "card" else "other"}
    assert replace(standing, **other).message() != standing.message()
    assert replace(standing, signature="00").message() == standing.message()


@pytest.mark.parametrize(
    "head", [{"proposal": 1}, {"proposal": {"run": "r"}}, {"farewell": []}, {"farewell": {"run": "r"}}]
)
def test_what_is_no_proposal_is_refused(head: dict[str, Any]) -> None:
    with pytest.raises(UpdateError, match="none of ours"):
        asked_from_envelope(Envelope(head, {}))


@pytest.mark.parametrize("head", [{"standing": 7}, {"standing": {"site": "a"}}, {"standing": {"card": {}}}])
def test_what_is_no_standing_is_refused(head: dict[str, Any]) -> None:
    with pytest.raises(UpdateError, match="none of ours"):
        answer_from_envelope(Envelope(head, {}))
