"""What is pinned of the sources that an experiment declares, and what is left to fill."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources.digests import shown

Pins = str | dict[str, str]


def pinned(source: Source) -> Pins:
    """Return the digests of a source; raise UserError where one is left to fill."""
    sha256 = source.sha256
    if isinstance(sha256, str):
        return sha256
    filled = {file: digest for file, digest in (sha256 or {}).items() if digest is not None}
    if sha256 is None or len(filled) < len(sha256):
        raise UserError(f"{', '.join(left_to_fill(source))} is left to fill; run `make pin EXPERIMENT=` with its name")
    return filled


def left_to_fill(source: Source) -> list[str]:
    """Return what of a source is not pinned: `the revision`, `sha256`, or `sha256 of FILE`."""
    missing = ["the revision"] if source.uri.startswith("hub:") and "@" not in source.uri else []
    if isinstance(source.sha256, dict):
        return missing + [f"sha256 of {shown(file)}" for file, digest in source.sha256.items() if digest is None]
    return missing + (["sha256"] if source.sha256 is None else [])


def declared(key: str, value: Any) -> Iterator[tuple[str, Source]]:
    """Yield the key and the source of every source within a section, such as `reward.scorer.source`."""
    if isinstance(value, Source):
        yield key, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from declared(f"{key}.{name}", getattr(value, name))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from declared(f"{key}.{name}", item)


def require_all(experiment: str, settings: Any, sections: tuple[str, ...]) -> None:
    """Raise UserError naming every key that is left to fill, and the command that finds the values."""
    sources = [found for section in sections for found in declared(section, getattr(settings, section))]
    problems = [
        f"{key}: {shown(source.uri)}: {', '.join(missing)}"
        for key, source in sources
        if (missing := left_to_fill(source))
    ]
    if problems:
        raise UserError(
            f"experiments/{experiment}.yaml: left to fill: {'; '.join(problems)}; "
            f"run `make pin EXPERIMENT={experiment}` where the model hub can be reached: it prints these keys with the "
            "present commit and the hash of every file; look them over and paste them in"
        )
