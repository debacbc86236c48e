"""What a user is meant to read: errors, values as messages show them, and refused arguments."""

import argparse
import reprlib
from collections.abc import Sequence
from typing import NoReturn


class UserError(Exception):
    """Report bad input in one message that names the place, what was expected and the remedy.

    `pipeline.apps.stage` prints it without a traceback and exits with code 2.
    """


class NotFiniteError(UserError):
    """Report weights, logits, losses or gradients that are not numbers any more, and the prompts it happened with."""

    def __init__(self, message: str, prompt_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.prompt_ids = list(prompt_ids)


LONGEST = 80  # characters

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = LONGEST
_brief.maxlevel = 3


def shown(value: object) -> str:
    """Return a value as Python writes it, on one line of at most 80 characters."""
    return shortened(_brief.repr(value))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return at most `longest` characters of a text, on one line and without control characters."""
    line = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text[: longest + 1]
    )
    return line if len(line) <= longest else line[: longest - 1] + "…"


class Arguments(argparse.ArgumentParser):
    """Refuse wrong arguments with one line that names the command and the remedy, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        command, usage = self.prog.rpartition(".")[2], " ".join(self.format_usage().split())
        self.exit(2, f"{command}: {shortened(message, 300)}; correct the command ({usage})\n")
