from pathlib import Path

import pytest

from medgan_core.release.swap import swapped_in


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "old").write_text("x")
    rename = Path.rename

    def stubborn(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(OSError, match="Input/output"), swapped_in(folder) as part:
        (part / "new").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (folder / "old").read_text() == "x"
