"""L0: the one exception that a user is meant to read."""


class UserError(Exception):
    """Report bad input in one message that names the place, what was expected and the remedy.

    `pipeline.stage` prints it without a traceback and exits with code 2.
    """
