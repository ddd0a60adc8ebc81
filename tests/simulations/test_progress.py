"""What a person sees while a run goes on."""

from io import StringIO

import pytest
from rich.console import Console

from server.rounds import Refusal
from simulations.progress import Silent, Terminal
from tests.server import making
from tests.simulations.making import tiny_study

ENTRY = {"round": 1, "phase": "train", "generator_loss": 0.5, "discriminator_accuracy_on_fakes": 0.75}


def terminal(tty: bool = True) -> tuple[Terminal, StringIO]:
    stream = StringIO()
    return Terminal(Console(file=stream, force_terminal=tty, width=120)), stream


def test_a_round_has_a_bar_that_moves_with_the_sites_and_time_left() -> None:
    shown, stream = terminal()
    federation = making.federation()
    answers = federation.answers(federation.state)
    with shown:
        shown.begin(tiny_study(sites__count=3), done=0)
        assert list(shown.watch(lambda request: answers)(federation.request())) == answers
        shown.finished(ENTRY)
    text = stream.getvalue()
    assert "run of tiny" in text
    assert "round 0 (one_shot), sites" in text
    assert "left" in text


def test_metrics_come_with_each_round() -> None:
    shown, stream = terminal(tty=False)
    shown.finished(ENTRY)
    assert stream.getvalue() == "round 1 train: G loss 0.500, D on fakes 75%\n"


def test_of_joint_steps_every_round_s_last_is_told() -> None:
    shown, stream = terminal(tty=False)
    joint = tiny_study(sites__count=3, privacy__secure_sum=True, share="gradient", rounds=2)
    shown.begin(joint, done=0)
    for number in range(1, joint.training_rounds + 1):
        shown.finished({**ENTRY, "round": number})
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["2", "4"]


def test_texts_with_brackets_are_shown_as_they_are() -> None:
    shown, stream = terminal(tty=False)
    shown.say("data.classes = ['a'] [bold]")
    shown.refused(Refusal("site-1", "site-1: shape [1, 2]"))
    assert stream.getvalue().splitlines() == ["data.classes = ['a'] [bold]", "refused: site-1: shape [1, 2]"]


def test_a_site_s_bug_takes_the_bar_down() -> None:
    shown, _ = terminal()
    federation = making.federation()

    def broken(request: object) -> list[Refusal]:
        raise ZeroDivisionError

    with shown, pytest.raises(ZeroDivisionError):
        list(shown.watch(broken)(federation.request()))


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("reading")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "reading\n")


def test_silence_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Silent() as silent:
        silent.say("x")
        silent.begin(tiny_study(), 0)
        silent.finished(ENTRY)
        silent.refused(Refusal("a", "b"))
    assert capsys.readouterr() == ("", "")
