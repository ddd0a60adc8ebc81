"""What a site adds to a secure sum is in none of the messages that leave it, nor in what it seals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.round
import client.site
from medgan_core.envelope import answer_to_envelope, asked_to_envelope
from medgan_core.messages import StageReply, Update
from simulations.attacks.known_words import Word, held, words_of_reals, words_of_sum
from tests.client.sums import Hospitals, coordinator


def messages(hospitals: Hospitals) -> bytes:
    """All that coordinator and sites told each other, as it travels."""
    told = [answer_to_envelope(one) for one in hospitals.answers if isinstance(one, Update | StageReply)]
    told += [asked_to_envelope(one) for one in hospitals.requests]
    heads = "".join(repr(one.head) for one in told).encode()
    arrays = [a for one in told for group in one.groups.values() for a in group.values()]
    return heads + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def test_under_a_secure_sum_no_message_and_no_file_holds_a_site_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[Word] = []
    real = client.round.noisy_words

    def noted(*arguments: Any) -> Any:
        vector = real(*arguments)
        words.extend(words_of_sum(vector))
        return vector

    monkeypatch.setattr(client.site, "noisy_words", noted)
    with Hospitals(tmp_path, coordinator()) as hospitals:
        hospitals.sum().run(np.zeros((2, hospitals.of.plan.one_shot_size // 2)))
        sent = messages(hospitals)
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(words) > 4 * 50
    assert len(sent) > 4 * 8 * hospitals.of.plan.one_shot_size
    assert held(sent, words) == set()
    assert held(files, words) == set()


def test_without_it_the_same_search_finds_them_in_messages_and_files(tmp_path: Path) -> None:
    of = coordinator(privacy__secure_sum=False)
    with Hospitals(tmp_path, of) as hospitals:
        list(hospitals.exchange(of.request(of.state)))
        sent = messages(hospitals)
    updates = [one for one in hospitals.answers if isinstance(one, Update)]
    words = [word for one in updates for word in words_of_reals(one.groups["statistics"]["embedding"])]
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(updates) == 4
    assert "f8 little" in held(sent, words)
    assert "f8 little" in held(files, words)
