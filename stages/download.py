"""Fetch model, data and scorers from their pinned sources, check every hash, and write a manifest beside each."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline import paths
from pipeline.atomic import replacing_folder
from pipeline.config.sections import Scorer, Source
from pipeline.records import write_json
from pipeline.sources import fetch
from pipeline.sources.checkpoint import import_checkpoint
from pipeline.stage import Stage, run_stage

SECTIONS = ("model", "data", "reward", "scorers")


def main(stage: Stage) -> None:
    """Write the four output folders; each always exists, if only with its manifest."""
    settings = stage.settings
    fetch_all("data.sources", settings.data.sources, paths.raw(stage.experiment))
    fetch_all("scorers", sources_of(settings.scorers), paths.scorers(stage.experiment))
    fetch_all("reward", sources_of({"scorer": settings.reward.scorer}), paths.reward(stage.experiment))
    fetch_base_model(settings.model.source, paths.base_model(stage.experiment))


def sources_of(scorers: Mapping[str, Scorer]) -> dict[str, Source]:
    """Return the sources of those scorers that have files to fetch."""
    return {name: scorer.source for name, scorer in scorers.items() if hasattr(scorer, "source")}


def fetch_all(key: str, sources: Mapping[str, Source], target: Path) -> None:
    """Fetch every source into a subfolder of its name, with one manifest of them all."""
    with replacing_folder(target) as folder:
        manifest = {name: fetch(f"{key}.{name}", source, folder / name) for name, source in sorted(sources.items())}
        write_json(folder / "manifest.json", manifest)


def fetch_base_model(source: Source, target: Path) -> None:
    """Fetch the model's files and make the checkpoint folder of them, with a manifest of what was fetched."""
    files = target.with_name(f".{target.name}.files")
    try:
        entry = fetch("model.source", source, files)
        import_checkpoint(files, target)
    finally:
        shutil.rmtree(files, ignore_errors=True)  # it is absent where the fetch failed
    write_json(target / "manifest.json", {"model": entry})


if __name__ == "__main__":
    run_stage("download", ("experiment",), SECTIONS, main, __doc__)
