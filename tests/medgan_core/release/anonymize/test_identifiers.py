import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.errors import InputError, RefusedError
from medgan_core.release.anonymize.identifiers import PseudonymKey, load_key, new_key

KEY = PseudonymKey(bytes(range(32)))


def test_a_new_key_is_read_by_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    key = new_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == key
    assert key.secret.hex() not in repr(key)
    with pytest.raises(InputError, match="exists already"):
        new_key(path)
    assert load_key(path) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "site.key"
    new_key(path)
    path.chmod(mode)
    with pytest.raises(RefusedError, match=f"mode {mode:o}.*chmod 600"):
        load_key(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    for content in (b"", b"zz" * 32, b"ab" * 31, b"\xff" * 64, b"ab" * 300):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(InputError, match="made by --new-key"):
            load_key(path)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="--key"):
            load_key(missing)
    with pytest.raises(InputError, match="--new-key"):
        new_key(tmp_path / "none" / "site.key")


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_are_keyed_and_of_a_fixed_form(issuer: str, patient: str) -> None:
    name = KEY.pseudonym(issuer, patient)
    assert re.fullmatch(r"ANON-[A-Z2-7]{16}", name)
    assert KEY.pseudonym(issuer, patient) == name
    assert PseudonymKey(b"x" * 32).pseudonym(issuer, patient) != name
    uid = KEY.uid(patient)
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d*)", uid)
    assert len(uid) <= 64


def test_parts_never_run_together() -> None:
    assert KEY.digest("a", "b", "c") != KEY.digest("a", "bc")
    assert KEY.digest("a", "bc") != KEY.digest("ab", "c")
