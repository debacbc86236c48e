"""The library versions that can change a training, as a file that DVC tracks.

`env.json` is a dependency of every stage that trains or samples: raising one of these versions reruns them, raising
any other does not. `make lock` writes it together with requirements.txt.
"""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pipeline.io import records

FILE = Path("env.json")
LIBRARIES = ("peft", "torch", "transformers")


def installed() -> dict[str, str]:
    """Return library -> installed version, without the build (`+cpu`), which is the machine's business."""
    return {library: version(library).partition("+")[0] for library in LIBRARIES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the installed versions to env.json."""
    argparse.ArgumentParser(prog="python -m pipeline.apps.environment", description=__doc__).parse_args(arguments)
    records.write_json(FILE, installed())


if __name__ == "__main__":
    main()
