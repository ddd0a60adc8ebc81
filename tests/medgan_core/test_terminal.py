import sys

import pytest
import typer

from medgan_core.errors import ConfigError, MedGANError, RefusedError, ReleaseError
from medgan_core.terminal import run

RAISED: dict[str, BaseException] = {
    "failed": MedGANError("what"),
    "bad": ConfigError("a", 1, "2"),
    "refused": RefusedError("why"),
    "tampered": ReleaseError("card.json"),
    "stopped": KeyboardInterrupt(),
    "aborted": typer.Abort(),
    "early": typer.Exit(4),
    "bug": ZeroDivisionError("bug"),
}


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    app = typer.Typer(no_args_is_help=True)

    @app.command()
    def fail(name: str, number: int = 1) -> None:
        raise RAISED[name]

    @app.command()
    def work() -> str:
        return "a value that is no exit code"

    monkeypatch.setattr(sys, "argv", ["tool", *arguments])
    with pytest.raises(SystemExit) as caught:
        run(app)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("failed", 1, "error: what\n"),
        ("bad", 2, "error: a = 1: expected 2\n"),
        ("refused", 3, "error: why\n"),
        ("tampered", 1, "error: card.json\n"),
        ("stopped", 130, "interrupted\n"),
        ("aborted", 130, "interrupted\n"),
        ("early", 4, ""),
    ],
)
def test_every_end_has_its_code_and_one_line(
    name: str,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, "fail", name) == code
    captured = capsys.readouterr()
    assert captured.err == says
    assert captured.out == ""


def test_success_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "work") == 0
    assert _run(monkeypatch, "--help") == 0


@pytest.mark.parametrize(
    "arguments",
    [("fail", "bad", "--number", "x"), ("fail",), ("fail", "bad", "--other"), ("nothing",)],
)
def test_wrong_usage_is_two_without_a_traceback(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert "Traceback" not in error


def test_no_arguments_print_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch) == 2
    assert "Usage" in "".join(capsys.readouterr())


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        _run(monkeypatch, "fail", "bug")
