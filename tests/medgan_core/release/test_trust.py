from pathlib import Path

import pytest

from medgan_core.errors import InputError
from medgan_core.public_card import PublicCard
from medgan_core.release.trust import Trust, TrustedKey, keys_text
from tests.medgan_core.test_public_card import node_key

A, B, C = ("ab" * 32, "cd" * 32, "ef" * 32)


def test_lines_with_comments_and_several_keys_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "trust.keys"
    path.write_text(f"# by telephone\n\nsite north {A}\n  site  north\t{B}  \ncoordinator clinic {C}\n")
    trust = Trust.read(path)
    assert trust.of_site("north") == {A, B}
    assert trust.of_site("clinic") == frozenset()
    assert (trust.coordinator(C), trust.coordinator(A)) == ("clinic", None)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    own = TrustedKey("coordinator", "clinic", C)
    (tmp_path / "x").write_text(keys_text({"south": B, "north": A}, own))
    keys = (own, TrustedKey("site", "north", A), TrustedKey("site", "south", B))
    assert Trust.read(tmp_path / "x") == Trust(keys)
    assert own.told().startswith("coordinator clinic: SHA256:")


def test_a_folder_holds_the_cards_of_sites_and_lines_of_others(tmp_path: Path) -> None:
    PublicCard("north", node_key(), A).write(tmp_path / "north.json")
    (tmp_path / "coordinator.keys").write_text(f"coordinator clinic {C}\n")
    (tmp_path / "notes.txt").write_text("no key at all")
    trust = Trust.read(tmp_path)
    assert (trust.of_site("north"), trust.coordinator(C)) == (frozenset({A}), "clinic")
    assert Trust.read(tmp_path / "north.json").of_site("north") == {A}


@pytest.mark.parametrize(
    "line", ["north " + A, f"site north {A[:-1]}", f"site no/rth {A}", f"friend x {A}", "\x00"]
)
def test_a_line_that_is_no_key_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trust.keys"
    path.write_text(f"site north {A}\n{line}\n")
    with pytest.raises(InputError, match=r"--trust trust.keys, line 2: expected"):
        Trust.read(path)


def test_what_holds_no_key(tmp_path: Path) -> None:
    (tmp_path / "bad.keys").write_bytes(b"\xff\xfe")
    (tmp_path / "none").mkdir()
    (tmp_path / "x.json").write_text("{")
    for name, says in (
        ("none", "it holds no key"),
        ("missing", "expected a file of public keys"),
        ("bad.keys", "cannot be read"),
        ("x.json", "cannot be read"),
    ):
        with pytest.raises(InputError, match=says):
            Trust.read(tmp_path / name)
