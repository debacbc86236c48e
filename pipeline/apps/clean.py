"""Remove outputs that no roster names: of experiments, seeds and policies that params.yaml does not list.

Only the workspace is touched. DVC's cache keeps what was recorded, so that an entry put back into the roster comes
back without a run; `dvc gc --all-commits` is what frees the cache (never `dvc gc -w`: it drops other experiments).
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.roster import REMEDY, load_roster
from pipeline.data import splits
from pipeline.io import paths
from pipeline.io.errors import UserError

ANY: Any = "*"


def unnamed_outputs() -> list[Path]:
    """Return every path shaped like an output of the cache that the roster does not name, sorted.

    Raises UserError where params.yaml spells nothing out for an experiment: all of its policies would be removed.
    """
    roster = load_roster()
    for experiment in roster.experiments:
        if not roster.policies_of(experiment):
            raise UserError(f"{paths.roster_file()}: policies: expected entries of {experiment}, got none; {REMEDY}")
    named = {
        path
        for experiment in roster.experiments
        for path in _outputs(experiment, roster.seeds, roster.policies_of(experiment))
    }
    shapes = _outputs(ANY, [ANY], [ANY])
    return sorted({path for shape in shapes for path in Path().glob(str(shape))} - named)


def remove(path: Path) -> None:
    """Remove one output, then each folder above it that this left empty, below the top one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    for folder in path.parents[:-2]:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def _outputs(experiment: str, seeds: Sequence[int], policies: Sequence[str]) -> Iterator[Path]:
    downloaded = (paths.raw, paths.base_model, paths.scorers, paths.reward, paths.fluency)
    yield from (place(experiment) for place in (*downloaded, paths.judge))
    yield from (paths.formatted(experiment, split) for split in splits.NAMES)
    for seed in seeds:
        yield paths.preferences(experiment, seed)
        places = (paths.adapter, paths.checkpoints, paths.completions, paths.scores, paths.probes)
        for policy in policies:
            yield from (place(experiment, seed, policy) for place in places)


def main(arguments: Sequence[str] | None = None) -> None:
    """Remove and name every output outside the roster; exit with code 2 and one message on bad input."""
    argparse.ArgumentParser(prog="python -m pipeline.apps.clean", description=__doc__).parse_args(arguments)
    try:
        unnamed = unnamed_outputs()
    except UserError as error:
        print(f"clean: {error}", file=sys.stderr)
        sys.exit(2)
    for path in unnamed:
        remove(path)
        print(f"removed {path}")
    print(f"{len(unnamed)} outputs removed that {paths.roster_file()} does not name")


if __name__ == "__main__":
    main()
