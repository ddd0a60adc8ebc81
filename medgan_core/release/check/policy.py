"""What a release must hold before it may go out: a policy, a small file in TOML that a person signs for.

Every key has a default, and 0 means "not asked" for floors and for limits that say so.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgan_core.errors import ConfigError, InputError
from medgan_core.evaluate.attacks.verdict import AttackRules

Share = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(ge=0.5, le=1)]
_FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True)


class Floors(BaseModel):
    """Least values of what the sites released; 0 is not asked. A figure that is missing is inconclusive."""

    model_config = _FROZEN

    accuracy: Annotated[Share, Field(description="of a classifier trained on synthetic images")] = 0.0
    balanced_accuracy: Annotated[Share, Field(description="the same, each class counting alike")] = 0.0
    auc: Annotated[Share, Field(description="of the same classifier")] = 0.0
    worst_class: Annotated[Share, Field(description="share of the worst assessed class found right")] = 0.0
    dice: Annotated[Share, Field(description="of segmentation")] = 0.0
    psnr: Annotated[Share, Field(description="of restoration and translation, in 60 dB")] = 0.0
    ssim: Annotated[Share, Field(description="of restoration and translation")] = 0.0
    coverage: Annotated[
        Share, Field(description="real images with a synthetic neighbour; of public data alone")
    ] = 0.0


class Policy(BaseModel):
    """Thresholds of the release check. AUCs from 0.5 (nothing learned) to 1."""

    model_config = _FROZEN

    max_attack_auc: Annotated[
        Area,
        Field(description="An attack whose 95 % lower bound is above this, or above what ε allows, fails."),
    ] = 0.60
    detectable_auc: Annotated[
        Area, Field(description="An attack this good must be seen, else the check cannot tell.")
    ] = 0.75
    twin_auc: Annotated[
        Area, Field(description="What an attack must reach on a generator overfitted on purpose, to count.")
    ] = 0.65
    max_epsilon: Annotated[float, Field(gt=0, description="Largest ε of this release.")] = 10.0
    max_account_epsilon: Annotated[
        float, Field(ge=0, description="Largest ε of a site's account, earlier runs too; 0: not asked.")
    ] = 20.0
    smallest_subgroup: Annotated[
        float, Field(gt=0, description="Classes with fewer held-out patients are not assessed.")
    ] = 50.0
    least_difference: Annotated[
        Share,
        Field(description="Least median difference of two images of a class, as a share of grey levels."),
    ] = 0.02
    duplicate_difference: Annotated[
        Share, Field(description="Images that differ by less than this are duplicates of each other.")
    ] = 0.01
    max_duplicates: Annotated[Share, Field(description="Largest share of images with a duplicate.")] = 0.05
    max_valid_days: Annotated[
        int, Field(ge=0, le=36_500, description="Longest time until expiry, in days; 0: not asked.")
    ] = 0
    require_contact: Annotated[
        bool, Field(description="Whether the card must say whom to ask: [release] contact of the study.")
    ] = False
    require_licence: Annotated[bool, Field(description="Whether it must name a licence.")] = False
    require_signatures: Annotated[
        bool, Field(description="Whether every receipt must be signed by its site.")
    ] = True
    floors: Floors = Floors()


def read_policy(path: Path) -> Policy:
    """A policy of a TOML file. InputError where it is no TOML, ConfigError for a key that cannot be."""
    try:
        return parse_policy(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"--policy {path.name}: {error.strerror}; see release-check --show-policy"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--policy {path.name} is not TOML: {error}") from error


def parse_policy(body: dict[str, Any]) -> Policy:
    """Validate a nested mapping. ConfigError with name, value and what is expected."""
    try:
        policy = Policy.model_validate(body)
        rules_of(policy)
        return policy
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "policy"
        if first["type"] == "extra_forbidden":
            model = Floors if first["loc"][0] == "floors" else Policy
            known = ", ".join(sorted(model.model_fields))
            raise ConfigError(name, first["input"], f"no such key; known are {known}") from None
        raise ConfigError(name, first["input"], first["msg"].removeprefix("Input should be ")) from None


def rules_of(policy: Policy) -> AttackRules:
    """What the attacks are judged by. ConfigError where the thresholds are not in their order."""
    return AttackRules(policy.max_attack_auc, policy.detectable_auc, policy.twin_auc)


def policy_text(policy: Policy) -> str:
    """The policy as TOML with a comment on each key; `read_policy` reads it back."""
    rows = _rows(policy, without={"floors"})
    return "\n".join([*rows, "[floors]  # least values; 0: not asked", *_rows(policy.floors), ""])


def _rows(section: BaseModel, without: frozenset[str] | set[str] = frozenset()) -> list[str]:
    fields = type(section).model_fields
    told = {name: getattr(section, name) for name in fields if name not in without}
    width = max(len(f"{name} = {_toml(value)}") for name, value in told.items())
    return [
        f"{f'{name} = {_toml(value)}':{width}}  # {fields[name].description}" for name, value in told.items()
    ]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
