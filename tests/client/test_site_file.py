"""site.toml: the commented file is the defaults, and every wrong value is named."""

import tomllib
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from client.site_file import ScheduleSection, SiteFile, parse_site_file, read_site_file, template
from medgan_core.codec import flatten
from medgan_core.errors import ConfigError, InputError

WRITTEN = tomllib.loads(template("north"))


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        found |= keys(kind, f"{prefix}{name}.") if nested else {f"{prefix}{name}"}  # type: ignore[arg-type]
    return found


def test_the_file_that_init_writes_has_every_key_with_its_default() -> None:
    assert set(flatten(WRITTEN)) == keys(SiteFile)
    assert parse_site_file(WRITTEN) == SiteFile(name="north")


def test_every_key_is_explained_where_it_stands() -> None:
    lines = [line for line in template("north").splitlines() if "=" in line and not line.startswith("#")]
    alone = {"largest_discriminator_width", "most_rounds"}  # the line above says it
    assert {line.split()[0] for line in lines if "#" not in line} == alone


def test_the_defaults_are_safe() -> None:
    policy = SiteFile(name="north").policy
    assert policy.approval
    assert not policy.privacy_off
    assert not policy.trust_secure_sum
    assert not SiteFile(name="north").data.public


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"policy": {"epsilon": 0}}, "policy.epsilon"),
        ({"policy": {"epsilom": 1.0}}, "policy.epsilom"),
        ({"policy": {"privacy_off": True}}, "policy.privacy_off"),
        ({"policy": {"approval": "yes"}}, "policy.approval"),
        ({"schedule": {"hours": "7-19"}}, "schedule.hours"),
        ({"schedule": {"hours": "07:00-07:00"}}, "schedule.hours"),
        ({"schedule": {"studies_at_once": 0}}, "schedule.studies_at_once"),
        ({"name": "../north"}, "name"),
        ({"data": {"kind": "mp4"}}, "data.kind"),
        ({"labels": {"0": 1}}, "labels.0"),
    ],
)
def test_a_wrong_value_is_named(body: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        parse_site_file({"name": "north"} | body)


def test_privacy_may_be_off_for_public_images_alone() -> None:
    body = {"name": "north", "data": {"public": True}, "policy": {"privacy_off": True, "epsilon": 20.0}}
    assert parse_site_file(body).policy.privacy_off


def test_a_file_that_is_missing_or_no_toml_is_an_input_error_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError) as missing:
        read_site_file(tmp_path / "site.toml")
    (tmp_path / "site.toml").write_text("name = ")
    with pytest.raises(InputError, match="not TOML") as broken:
        read_site_file(tmp_path / "site.toml")
    assert str(tmp_path) not in f"{missing.value}{broken.value}"


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("19:00-07:00", [time(19), time(23), time(0), time(6, 59)], [time(7), time(12), time(18, 59)]),
        ("08:30-17:00", [time(8, 30), time(16, 59)], [time(8, 29), time(17), time(0)]),
        ("", [time(0), time(12)], []),
    ],
)
def test_hours_may_go_through_midnight(hours: str, inside: list[time], outside: list[time]) -> None:
    schedule = ScheduleSection(hours=hours)
    assert all(schedule.open_at(at) for at in inside)
    assert not any(schedule.open_at(at) for at in outside)
