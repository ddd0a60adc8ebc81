"""What a hospital makes of a proposal before a person looks at it: study, plan, cost, broken rules."""

from dataclasses import dataclass
from functools import lru_cache

from client.policy import Cost, Rule, broken_by_plan, broken_by_study, parse_error, refusal
from client.site_file import SiteFile
from medgan_core.config import Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.proposals import Proposal
from medgan_core.public_card import NAME


@dataclass(frozen=True, eq=False)
class Judged:
    """A proposal that keeps to every public rule of this site; the private ones are for later."""

    study: Study
    plan: PrivacyPlan
    cost: Cost


def judge(config: SiteFile, proposal: Proposal, own_key: str) -> Judged:
    """What is proposed. `own_key` is this site's public key in hex.

    PolicyError with the names of the rules it breaks: all of them are about public facts.
    """
    study = _study(proposal)
    if rules := (*_cohort(config, study, proposal, own_key), *broken_by_study(config, study)):
        raise refusal(rules)
    plan = _plan(study)
    if rules := broken_by_plan(config, plan):
        raise refusal(rules)
    return Judged(study, plan, Cost.of(plan))


def _study(proposal: Proposal) -> Study:
    try:
        study = parse_study(proposal.study)
    except ConfigError as error:
        raise refusal((parse_error(error),)) from None
    if study.to_dict() != dict(proposal.study):
        raise refusal((Rule("study", True, "it is not resolved: some of its values are left to defaults"),))
    return study


@lru_cache(maxsize=64)
def _plan(study: Study) -> PrivacyPlan:
    try:
        return PrivacyPlan.of(study, "patient")
    except ConfigError as error:
        raise refusal((parse_error(error),)) from None


def _cohort(config: SiteFile, study: Study, proposal: Proposal, own_key: str) -> tuple[Rule, ...]:
    if not all(NAME.fullmatch(name) for name in proposal.sites):
        return (Rule("sites", True, "a name of a site cannot be"),)
    if proposal.sites.get(config.name) != own_key:
        return (Rule("sites", True, f"{config.name} with its present key is not among the study's sites"),)
    if len(proposal.sites) != study.sites.count:
        return (
            Rule("sites", True, f"{len(proposal.sites)} sites named, sites.count is {study.sites.count}"),
        )
    return ()
