"""`make pin EXPERIMENT=x`: find the commits and hashes that an experiment leaves to fill, and print them.

What a hub or a server gives now is taken as what it is: look it over before it is pasted in. No file of the repository
is changed; the downloads stay in their caches, where `download` finds them again.
"""

import logging
import sys
from typing import Any

import yaml

from pipeline.config.fields import Source
from pipeline.config.loader import load
from pipeline.config.sections import ExperimentFile
from pipeline.io.errors import Arguments, UserError
from pipeline.sources import hub, url
from pipeline.sources.digests import bounded
from pipeline.sources.pins import declared, left_to_fill

LEARNED = {"hub": hub.learn, "url": url.learn}


def missing_pins(experiment: str) -> dict[str, Any]:
    """Return the sources that are not wholly pinned, as they stand in the experiment's file, with their pins filled in.

    Raises UserError naming the key of a source that cannot be had, and of one whose hash has to be found otherwise.
    """
    sections = tuple(ExperimentFile.model_fields)
    settings = load(experiment, sections)
    block: dict[str, Any] = {}
    for section in sections:
        for key, source in declared(section, getattr(settings, section)):
            if left_to_fill(source):
                _put(block, key, _learned(key, source).model_dump())
    return block


def _learned(key: str, source: Source) -> Source:
    scheme = source.uri.partition(":")[0]
    try:
        if scheme not in LEARNED:
            raise UserError(
                f"a {scheme}: source is pinned by hand; `sha256sum` says the hash of a file, "
                "`pip download --no-deps PACKAGE==VERSION` fetches a wheel"
            )
        with bounded():
            return LEARNED[scheme](source)
    except UserError as error:
        raise UserError(f"{key}: {source.uri}: {error}") from None


def _put(block: dict[str, Any], key: str, value: dict[str, Any]) -> None:
    *path, last = key.split(".")
    for name in path:
        block = block.setdefault(name, {})
    block[last] = value


def main() -> None:
    """Print the YAML of what was left to fill; exit with code 2 and one message when it cannot be found."""
    parser = Arguments(prog="python -m pipeline.apps.pin", description=__doc__)
    parser.add_argument("experiment", help="name of a file in experiments/, without .yaml")
    experiment = parser.parse_args().experiment
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        block = missing_pins(experiment)
    except UserError as error:
        print(f"pin: {error}", file=sys.stderr)
        sys.exit(2)
    if not block:
        print(f"pin: experiments/{experiment}.yaml: nothing is left to fill", file=sys.stderr)
        return
    print(yaml.safe_dump(block, sort_keys=False, width=1000), end="")


if __name__ == "__main__":
    main()
