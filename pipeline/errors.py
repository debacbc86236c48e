"""L0: the exceptions that a user is meant to read."""

from collections.abc import Sequence


class UserError(Exception):
    """Report bad input in one message that names the place, what was expected and the remedy.

    `pipeline.stage` prints it without a traceback and exits with code 2.
    """


class NotFiniteError(UserError):
    """Report weights, logits, losses or gradients that are not numbers any more, and the prompts it happened with."""

    def __init__(self, message: str, prompt_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.prompt_ids = list(prompt_ids)
