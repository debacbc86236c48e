"""How a value of a parameter file is shown in a message: short, and on one line, whatever it is."""

import reprlib

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
