"""Compare what is on disk with what was recorded: `python -m pipeline.verify [EXPERIMENT ...] [--allow-missing]`."""

import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from pipeline.arguments import Arguments
from pipeline.errors import UserError
from pipeline.verify import check, showing


def main(arguments: Sequence[str] | None = None) -> None:
    """Check and print; exit with 1 when something is not as recorded, with 2 and one message on bad input."""
    parser = Arguments(prog="python -m pipeline.verify", description=__doc__)
    parser.add_argument("experiments", metavar="EXPERIMENT", nargs="*", help="of the roster; default: all of it")
    parser.add_argument(
        "--allow-missing", action="store_true", help="outputs that DVC keeps may be absent, as before `dvc pull`"
    )
    parsed = parser.parse_args(arguments)
    progress, console = Console(stderr=True), Console()
    try:
        verified = check(parsed.experiments, partial(showing.watched, console=progress), progress.status)
    except UserError as error:
        print(f"verify: {error}", file=sys.stderr)
        sys.exit(2)
    console.print(showing.text(verified, parsed.allow_missing), soft_wrap=True)
    sys.exit(1 if verified.faults(parsed.allow_missing) else 0)


if __name__ == "__main__":
    main()
