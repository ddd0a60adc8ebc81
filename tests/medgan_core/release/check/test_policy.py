import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.errors import ConfigError, InputError
from medgan_core.release.check.policy import Floors, Policy, parse_policy, policy_text, read_policy


@given(
    st.builds(
        Policy,
        max_attack_auc=st.floats(0.5, 0.7),
        detectable_auc=st.floats(0.71, 1),
        twin_auc=st.floats(0.51, 1),
        max_epsilon=st.floats(0.01, 100),
        max_valid_days=st.integers(0, 36_500),
        require_contact=st.booleans(),
        floors=st.builds(Floors, accuracy=st.floats(0, 1)),
    )
)
def test_the_text_of_a_policy_is_read_back(policy: Policy) -> None:
    assert parse_policy(tomllib.loads(policy_text(policy))) == policy


def test_every_key_has_a_comment() -> None:
    lines = [line for line in policy_text(Policy()).splitlines() if "=" in line]
    assert len(lines) == len(Policy.model_fields) - 1 + len(Floors.model_fields)
    assert all("  # " in line and line.split("  # ")[1] != "None" for line in lines)


def test_a_file_may_set_a_part(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("max_epsilon = 1\n[floors]\nauc = 0.7\n")
    assert read_policy(path) == Policy(max_epsilon=1.0, floors=Floors(auc=0.7))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_epsilon = 0", "max_epsilon"),
        ("max_epsilom = 1", "max_epsilom.*known are detectable_auc"),
        ("[floors]\nfid = 1", "floors.fid.*known are accuracy"),
        ("max_attack_auc = 0.8", "max_attack_auc|detectable_auc"),
        ("require_contact = 1", "require_contact"),
        ("twin_auc = 0.4", "twin_auc"),
    ],
)
def test_what_a_policy_may_not_say(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_policy(path)


def test_what_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--policy none.toml"):
        read_policy(tmp_path / "none.toml")
    (tmp_path / "p").write_text("= 1")
    with pytest.raises(InputError, match="is not TOML"):
        read_policy(tmp_path / "p")
