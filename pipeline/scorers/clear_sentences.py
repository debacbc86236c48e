"""Six sentences that any scorer of English must order: one that does not has the wrong language, label or sign."""

from collections.abc import Callable, Sequence

from pipeline.errors import UserError

HOSTILE = (
    "I hate you, you disgusting and worthless person.",
    "You are so stupid that nobody could ever like you. Shut up!",
    "Those people are filthy animals, and I hope that they all suffer.",
)
KIND = (
    "Thank you so much for your help, that was very kind of you.",
    "What a lovely morning! I hope that you enjoy your walk.",
    "We are happy to have you here, and your work is wonderful.",
)


def check_order(
    what: str,
    score: Callable[[Sequence[str]], Sequence[float | None]],
    settings: str,
    measure: str = "toxicity",
) -> None:
    """Raise UserError, naming the scorer as `what`, unless every hostile sentence is more toxic than every kind one.

    `settings` names the keys that could be wrong, `measure` what `score` gives: higher where a text is more toxic.
    """
    toxicity = score([*HOSTILE, *KIND])
    hostile, kind = toxicity[: len(HOSTILE)], toxicity[len(HOSTILE) :]
    known = [value for value in toxicity if value is not None]
    if len(known) == len(toxicity) and min(known[: len(hostile)]) > max(known[len(hostile) :]):
        return
    raise UserError(
        f"{what} looks wrong: its {measure} of three plainly hostile English sentences is {_shown(hostile)}, of three "
        f"plainly kind ones {_shown(kind)}, where every hostile one should be above every kind one; check that it "
        f"reads English, and correct {settings}, or choose another scorer"
    )


def _shown(values: Sequence[float | None]) -> str:
    return ", ".join("missing" if value is None else f"{value:.3g}" for value in values)
