"""How all our command lines end: an exit code that scripts can rely on, and a traceback only for bugs.

0 done, 1 failed or tampered, 2 bad input, 3 refused by privacy or policy, 130 interrupted.
"""

import sys
from typing import NoReturn

import click
import typer

from medgan_core.errors import MedGANError

_INTERRUPTED = 130


def run(app: typer.Typer) -> NoReturn:
    """Run a command line with the process's arguments, and exit with its code."""
    sys.exit(_exit_code(app))


def _exit_code(app: typer.Typer) -> int:
    try:
        # Without standalone mode an early exit is returned as its code, and a command's None is success.
        code = typer.main.get_command(app).main(standalone_mode=False)
    except MedGANError as error:
        return _say(f"error: {error}", error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        return _say(error.format_message(), error.exit_code)
    except click.ClickException as error:
        return _say(f"{_usage(error)}error: {error.format_message()}", 2)
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        return _say("interrupted", _INTERRUPTED)
    return code if isinstance(code, int) else 0


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.get_usage()}\n" if context else ""


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
