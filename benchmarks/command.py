"""How a benchmark leaves: bad input is one message and exit code 2, Ctrl-C is 130."""

import signal
import sys
from collections.abc import Callable

from pipeline.io import process
from pipeline.io.errors import UserError


def run(name: str, main: Callable[[], None]) -> None:
    """Run `main` as the command `name`; it dies with the process that started it."""
    process.die_with_parent()
    process.terminate_as_exit()
    try:
        main()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
