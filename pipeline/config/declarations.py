"""What methods, scorers, data sets and metrics say of themselves, and how the rooms that hold them are read.

Each declares itself in its own file, as `METHOD`, `SCORER`, `DATASET` or `METRIC`, and is listed by one word in its
room's `__init__.py`. A declaration imports no torch, transformers, trl or mlflow: every stage reads all of them before
it does anything. Everything else (schema, roster, DAG, plan, report, the tests' lists) is derived from the four dicts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pipeline.config.fields import Section, Source

RESERVED = ("reference", "preferences")  # they have a stage, and files named after it
# An experiment file -> one `key: what is wrong, what was expected` line a problem.
Rules = Callable[[Any], Iterable[str]]


def _none(*_: Any) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Method:
    """A way of training the policy; `name` is the stage's suffix, the section, the adapter's folder and the run.

    `inputs`: what it trains on, the train prompts, all scored samples, or pairs of them. `train(training, section)`
    trains in place and returns what `pipeline.methods.training.Trained` holds. `curve`: the column that DVC draws.
    `memory(sizes, section)` returns the bytes of its phases, `tokens(work, section)` how many tokens it reads, learns
    from and draws: see `pipeline.apps.plan`. `sizes`: keys of its section to lower where memory is short.
    """

    name: str
    title: str
    section: type[Section]
    inputs: Literal["prompts", "samples", "pairs"]
    train: Callable[[Any, Any], Any]
    curve: str
    colour: str
    shape: str
    memory: Callable[[Any, Any], Sequence[int]]
    tokens: Callable[[Any, Any], tuple[float, float, float] | None]
    sizes: tuple[str, ...]
    rules: Rules = _none


def _source(section: Any) -> dict[str, Source]:
    return {"": section.source} if hasattr(section, "source") else {}


def _weights(section: Any) -> object:
    return getattr(section, "source", section)


@dataclass(frozen=True)
class ScorerKind:
    """A kind of scorer. `load(name, section, folder, experiment)` returns it, its files being in `folder`.

    `sources`: what is fetched for it, by subfolder ("" for none). `weights`: what makes it the one that it is, whatever
    its other settings are. `has_logits`: a reward may be its logit. `is_fitted`: the judge stage fits it. `members`:
    the scorers that it is made of, by name. `bytes`: of memory, roughly.
    """

    kind: str
    section: type[Section]
    load: Callable[[str, Any, Path, str], Any]
    bytes: Callable[[Any], int]
    sources: Callable[[Any], Mapping[str, Source]] = _source
    weights: Callable[[Any], object] = _weights
    has_logits: bool = False
    is_fitted: bool = False
    members: Callable[[Any], Mapping[str, Any]] = lambda section: {}


def _prompt(row: Any, section: Any) -> str:
    return str(row.prompt)


@dataclass(frozen=True)
class DataSet:
    """A data set. `read(raw, section)` yields its rows: see `pipeline.data.readers`.

    `sizes`: the keys that decide how large its splits are. `splits_by_content`: rows without a split of their own are
    put into one by their content. `demonstrates`: it can hold demonstrations; `has_pairs(section)`: it holds pairs.
    `compared(row, section)`: what of a prompt is its own, without an instruction that all prompts share. `most(section,
    split)`: the largest number of rows of a split, None for all. `further(rows, section)`: demonstrations that are made
    of those that the reference learns from.
    """

    name: str
    section: type[Section]
    read: Callable[[Path, Any], Iterable[Any]]
    sizes: str = "data.eval_fraction or data.dev_fraction"
    splits_by_content: bool = True
    demonstrates: bool = True
    has_pairs: Callable[[Any], bool] = lambda section: False
    compared: Callable[[Any, Any], str] = _prompt
    most: Callable[[Any, str], int | None] = lambda section, split: None
    further: Callable[[Sequence[Any], Any], list[Any]] = lambda rows, section: []
    rules: Rules = _none


@dataclass(frozen=True)
class Metric:
    """Something that is measured of a policy beside its toxicity: one value, named as it is, or several.

    `meaning`: a few words for the report, on the value or on each by its name; `{task}` stands for a task of `probe`.
    `measure(outputs)` of a `pipeline.evaluation.measure.Outputs` returns a `Measure`, or several by name.
    `watched(file)`: the names of the values that a guard may watch, where the experiment file decides that. `change`:
    the only kind of change that its guards know. `detail(own, reference, frame)`: what is said beside its values.
    """

    name: str
    meaning: str | Mapping[str, str]
    measure: Callable[[Any], Any]
    watched: Callable[[Any], Iterable[str]] | None = None
    change: Literal["relative", "absolute"] | None = None
    detail: Callable[[Any, Any, Any], Mapping[str, Any]] = lambda own, reference, frame: {}

    @property
    def meanings(self) -> dict[str, str]:
        """Return the words on every value by its name."""
        return {self.name: self.meaning} if isinstance(self.meaning, str) else dict(self.meaning)

    def guards(self, file: Any) -> list[str]:
        """Return the names of the values that a guard may watch with this experiment file."""
        return list(self.meanings if self.watched is None else self.watched(file))


@dataclass(frozen=True, eq=False)
class Rooms:
    """All that is declared, by name, in the order in which it is listed."""

    methods: Mapping[str, Method]
    scorers: Mapping[str, ScorerKind]
    datasets: Mapping[str, DataSet]
    metrics: Mapping[str, Metric]


def declared(room: str, what: str, names: Iterable[str]) -> dict[str, Any]:
    """Return what the files of a room declare, by their names: `METHOD` of `pipeline.methods.sft` for sft.

    Raises ImportError where a file is missing or names itself otherwise than the room does.
    """
    found = {}
    for name in names:
        found[name] = getattr(import_module(f"{room}.{name}"), what)
        own = getattr(found[name], "kind", None) or found[name].name
        if own != name or own in RESERVED:
            raise ImportError(f"{room}.{name}: expected {what} to be named as its file, and not reserved, got {own}")
    return found


@cache
def rooms() -> Rooms:
    """Return all that is declared. The rooms stand above this one: they are loaded by name, and are no import."""
    return Rooms(
        methods=import_module("pipeline.methods").METHODS,
        scorers=import_module("pipeline.scorers").SCORERS,
        datasets=import_module("pipeline.data").DATASETS,
        metrics=import_module("pipeline.evaluation.metrics").METRICS,
    )
