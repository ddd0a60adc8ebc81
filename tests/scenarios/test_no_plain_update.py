"""What one site adds to a secure sum is nowhere at the coordinator; without secure sums it is found there."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import client.round
import client.site
from client.site import SiteWorker
from medgan_core.messages import Phase, Update
from simulations.attacks.known_words import Word, held, words_of_reals, words_of_sum
from tests.scenarios.federating import Federation, until
from tests.simulations.making import study_file, write_set

pytestmark = pytest.mark.scenario
_BLOCK, _LONGEST, _PAUSE = 4096, 128, 0.1
FEW = {"sites__count": 3, "strategy": "one_shot", "rounds": 0, "evaluation__synthetic_images": 16}


class Watcher:
    """All that files below some folders held at any of its looks, ten a second."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.seen: dict[str, list[bytes]] = {}
        self._states: set[tuple[Path, int, int]] = set()
        self._blocks: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def found(self, words: list[Word]) -> dict[str, set[str]]:
        """By file name, the forms in which it held one of the words."""
        by_name = {name: held(b"\0".join(parts), words) for name, parts in self.seen.items()}
        return {name: forms for name, forms in by_name.items() if forms}

    def keep(self, path: Path) -> None:
        """What is new in a file: a database that grows, or a part that got its name, is not kept again."""
        content, kept = path.read_bytes(), self.seen.setdefault(path.name, [])
        for start in range(0, len(content), _BLOCK):
            # the neighbours' ends belong to it: a word may lie across two blocks
            part = content[max(0, start - _LONGEST) : start + _BLOCK + _LONGEST]
            if (known := hash(part)) not in self._blocks:
                self._blocks.add(known)
                kept.append(part)

    def _look(self) -> None:
        for path in (path for folder in self.folders for path in folder.rglob("*")):
            with suppress(FileNotFoundError):
                now = path.stat()
                state = (path, now.st_mtime_ns, now.st_size)
                if path.is_file() and state not in self._states:
                    self.keep(path)
                    self._states.add(state)

    def _look_on(self) -> None:
        while not self._ended.wait(_PAUSE):
            self._look()


@contextmanager
def played(path: Path, **changes: Any) -> Iterator[Watcher]:
    """Three hospitals' one-shot round over Flower, with all that the coordinator's side writes watched."""
    federation = Federation(path, write_set(path / "data", patients=60), sites=3, proxy=False)
    nodes = [site.home / "flower" for site in federation.sites]
    with federation.running(), Watcher(federation.folder.path, *nodes) as watcher:
        run = federation.start(study_file(path, **FEW, **changes))
        rounds = run.run.path / "rounds.jsonl"
        until(lambda: rounds.exists() and rounds.read_text(), 100, "the one-shot round", federation.logs)
        for log in path.glob("*.log"):
            watcher.keep(log)
        yield watcher


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("f")  # a socket's path is short


def test_under_secure_sums_no_site_s_words_are_in_any_file_log_or_message(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[Word] = []
    masked: list[Word] = []
    draw, take_part = client.round.noisy_words, SiteWorker.take_part

    def noted(*arguments: Any) -> Any:
        vector = draw(*arguments)
        words.extend(words_of_sum(vector))
        return vector

    def sent(*arguments: Any) -> Any:
        answer = take_part(*arguments)
        if isinstance(answer, Update):
            masked.extend(words_of_sum(answer.groups["masked"]["sum"]))
        return answer

    monkeypatch.setattr(client.site, "noisy_words", noted)
    monkeypatch.setattr(SiteWorker, "take_part", sent)
    with played(path, privacy__secure_sum=True) as watcher:
        pass
    assert len(words) > 3 * 50
    assert watcher.found(words) == {}
    assert "u8 little" in watcher.found(masked)["state.db-wal"]
    assert {"up.log", "rounds.jsonl"} <= watcher.seen.keys()


def test_without_secure_sums_the_same_search_finds_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[Word] = []
    real = client.round.local_round

    def noted(*arguments: Any) -> Any:
        result = real(*arguments)
        if arguments[4].phase is Phase.ONE_SHOT:
            words.extend(words_of_reals(result.groups["statistics"]["embedding"]))
        return result

    monkeypatch.setattr(client.site, "local_round", noted)
    with played(path) as watcher:
        pass
    found = watcher.found(words)
    assert "f8 little" in found["state.db-wal"]
    assert any(".safetensors" in name for name in found), found  # or its part, which is written first
