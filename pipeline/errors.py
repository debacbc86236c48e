"""L0: the exceptions that a user is meant to read."""


class UserError(Exception):
    """Report bad input in one message that names the place, what was expected and the remedy.

    `pipeline.stage` prints it without a traceback and exits with code 2.
    """


class NotFiniteError(UserError):
    """Report weights or logits that are not numbers any more."""
