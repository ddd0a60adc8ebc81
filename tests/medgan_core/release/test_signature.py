import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.errors import InputError, ReleaseError
from medgan_core.privacy.sum_keys import new_secret, sign, verify_key_of
from medgan_core.release.files import SIGNATURE
from medgan_core.release.signature import (
    ManifestSignature,
    read_signature,
    read_signing_key,
    sign_manifest,
)

KEY = new_secret()


def test_an_unsigned_release_has_no_signature(folder: Path) -> None:
    assert read_signature(folder) is None


def test_what_is_signed_is_read_back(folder: Path) -> None:
    sign_manifest(folder, KEY)
    told = read_signature(folder)
    assert told is not None
    assert told.key == verify_key_of(KEY).hex()
    assert "manifest.json" in told.files
    assert len(told.files) == 9


@settings(max_examples=25)
@given(files=st.dictionaries(st.text(max_size=5), st.text(max_size=5)), other=st.text(max_size=5))
def test_a_signature_is_of_these_files_alone(files: dict[str, str], other: str) -> None:
    bare = ManifestSignature(files=files, key=verify_key_of(KEY).hex())
    signed = bare.model_copy(update={"signature": sign(KEY, bare.message()).hex()})
    assert signed.valid()
    assert not signed.model_copy(update={"files": {**files, "another one": other}}).valid()
    assert not signed.model_copy(update={"key": verify_key_of(new_secret()).hex()}).valid()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"signature": "00" * 64}, "manifest.sig was changed"),
        ({"key": "no hex"}, "manifest.sig was changed"),
        ({"files": {}}, "manifest.sig was changed"),
        ({"surprise": 1}, "manifest.sig cannot be read"),
        ({"format": 2}, "manifest.sig cannot be read"),
    ],
)
def test_a_signature_that_was_changed(folder: Path, edit: dict[str, object], says: str) -> None:
    sign_manifest(folder, KEY)
    body = json.loads((folder / SIGNATURE).read_text())
    (folder / SIGNATURE).write_text(json.dumps(body | edit))
    with pytest.raises(ReleaseError, match=f"^{says}"):
        read_signature(folder)


def test_a_signing_key_is_32_bytes(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    assert read_signing_key(tmp_path / "key") == KEY
    (tmp_path / "key").write_bytes(b"short")
    for name in ("key", "missing"):
        with pytest.raises(InputError, match=f"^--key {name}"):
            read_signing_key(tmp_path / name)
