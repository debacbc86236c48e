"""Fetch model, data and scorers from their pinned sources, check every hash, and write a manifest beside each."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.config.fields import Source
from pipeline.config.loader import Settings
from pipeline.config.sections import Fluency
from pipeline.data.readers import read_raw
from pipeline.data.splits import split
from pipeline.io import paths
from pipeline.io.atomic import replacing_folder, staged
from pipeline.io.records import write_json
from pipeline.scorers.loading import sources_of
from pipeline.sources.built_model import build_t5
from pipeline.sources.fetching import fetch
from pipeline.sources.importing import import_checkpoint
from pipeline.sources.pins import require_all

NODE = Node(
    axes=("experiment",),
    sections=("model", "data", "reward", "scorers", "fluency"),
    outs=lambda at: (
        paths.raw(at.experiment),
        paths.base_model(at.experiment),
        paths.fluency(at.experiment),
        paths.reward(at.experiment),
        paths.scorers(at.experiment),
    ),
)


def main(stage: Stage) -> None:
    """Write the five output folders; each always exists, if only with its manifest."""
    settings = stage.settings
    require_all(stage.experiment, settings, NODE.sections)
    fetch_all("data.sources", settings.data.sources, paths.raw(stage.experiment))
    fetch_all("scorers", sources_of(settings.scorers), paths.scorers(stage.experiment))
    fetch_all("reward", sources_of({"scorer": settings.reward.scorer}), paths.reward(stage.experiment))
    make_base(stage.experiment, settings)
    fetch_fluency(settings.fluency, paths.fluency(stage.experiment))


def fetch_all(key: str, sources: Mapping[str, Source], target: Path) -> None:
    """Fetch every source into a subfolder of its name, with one manifest of them all."""
    with replacing_folder(target) as folder:
        manifest = {
            name: fetch(f"{key}.{name.replace('/', '.')}", source, folder / name)
            for name, source in sorted(sources.items())
        }
        write_json(folder / "manifest.json", manifest)


def make_base(experiment: str, settings: Settings) -> None:
    """Fetch the base model, or build it; its tokenizer is then trained on the train prompts, and on no others."""
    target, build = paths.base_model(experiment), settings.model.build
    if build is None:
        fetch_model("model.source", settings.model.source, target)
        return
    rows = read_raw(settings.data, staged(paths.raw(experiment))).rows
    found = split(rows, settings.data).rows
    prompts = [row.prompt for row in found["train"] + found["demonstrations"]]
    entry = build_t5(build, prompts, target)
    write_json(target / "manifest.json", {"model": entry})


def fetch_fluency(fluency: Fluency, target: Path) -> None:
    """Fetch the causal model that perplexity is measured under; the manifest alone where that is the base model."""
    if fluency.kind == "causal_lm":
        fetch_model("fluency.source", fluency.source, target)
    else:
        fetch_all("fluency", {}, target)


def fetch_model(key: str, source: Source, target: Path) -> None:
    """Fetch a model's files and make the checkpoint folder of them, with a manifest of what was fetched."""
    files = target.with_name(f".{target.name}.files")
    try:
        entry = fetch(key, source, files)
        import_checkpoint(files, target, key)
    finally:
        shutil.rmtree(files, ignore_errors=True)  # it is absent where the fetch failed
    write_json(target / "manifest.json", {"model": entry})


if __name__ == "__main__":
    run_stage("download", NODE, main, __doc__)
