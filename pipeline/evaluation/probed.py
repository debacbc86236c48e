"""Read what was probed: exactly seeds x policies of probes/, checked to be about the same texts."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation import rows
from pipeline.evaluation.rows import Probe
from pipeline.evaluation.statistics import Array
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.scorers.identity import IDENTITY

_REMEDY = "delete the file and run `dvc repro`"
Key = tuple[str, str, int]


@dataclass(frozen=True)
class ProbeGrid:
    """One probe of all policies: I items in the order of their ids, S seeds, C choices; NaN where there is none.

    `labels` [I] are the places of the right choices. `tokens` and `bytes` [I, C] are how many were scored and how
    long the text is in UTF-8, `logprobs[policy]` [I, S, C] the sums in nats.
    """

    labels: Array
    tokens: Array
    bytes: Array
    logprobs: dict[str, Array]

    def chosen(self, policy: str) -> Array:
        """Return the place [I, S] of the choice of the highest log-likelihood a byte, the first of equals.

        The acc_norm of lm-evaluation-harness divides by characters, which are bytes in ASCII.
        """
        places: Array = np.nanargmax(self.logprobs[policy] / self.bytes[:, None, :], axis=2).astype(np.float64)
        return places


@dataclass(frozen=True)
class Probed:
    """Every probe of one experiment, by name."""

    grids: dict[str, ProbeGrid]


def read_probes(experiment: str, seeds: Sequence[int], policies: Sequence[str], tasks: Collection[str]) -> Probed:
    """Read every file of seeds x policies and no other.

    A file of another seed or policy is ignored and named in one log line. Raises UserError naming the file when one is
    missing or malformed, when its probes are not `tasks` and the identity sentences, and when two were not made from
    the same texts.
    """
    files = {(policy, seed): paths.probes(experiment, seed, policy) for policy in policies for seed in seeds}
    rows.name_strays(set(files.values()))
    found = {place: _rows(path) for place, path in files.items()}
    origin, first = next(iter(files.values())), next(iter(found.values()))
    _check_probes(origin, {name for name, _, _ in first}, {IDENTITY, *tasks})
    for name in (IDENTITY, *tasks):
        _check_items(origin, name, [row for row in first.values() if row.probe == name])
    for place, path in files.items():
        _check_same_texts(path, found[place], origin, first)
    by_policy = {policy: [found[policy, seed] for seed in seeds] for policy in policies}
    return Probed({name: _grid(name, by_policy) for name in (IDENTITY, *tasks)})


def _rows(path: Path) -> dict[Key, Probe]:
    found: dict[Key, Probe] = {}
    for number, row in enumerate(rows.read(path, Probe), start=1):
        key = (row.probe, row.item, row.choice)
        if key in found:
            raise UserError(f"{path}:{number}: {_named(key)} stands here a second time; {_REMEDY}")
        found[key] = row
    return dict(sorted(found.items()))


def _check_probes(path: Path, found: Set[str], expected: Set[str]) -> None:
    if found != expected:
        names = [", ".join(sorted(names)) or "none" for names in (expected, found)]
        raise UserError(f"{path}: expected the probes {names[0]}, got {names[1]}; {_REMEDY}")


def _check_items(path: Path, name: str, found: Sequence[Probe]) -> None:
    """Refuse items whose choices are not 0, 1, … and labels that are none of them, or are known of some items only."""
    by_item: dict[str, list[Probe]] = {}
    for row in found:
        by_item.setdefault(row.item, []).append(row)
    is_labelled = found[0].label is not None
    for item, choices in by_item.items():
        places = [row.choice for row in choices]
        if places != list(range(len(choices))) or (len(choices) == 1) != (name == IDENTITY):
            wanted = "choice 0 alone" if name == IDENTITY else "choices 0, 1, … and at least two"
            raise UserError(f"{path}: {name} {item}: expected {wanted}, got {places}; {_REMEDY}")
        labels = {row.label for row in choices}
        if len(labels) > 1 or not labels <= ({*places} if is_labelled else {None}):
            wanted = "that of one choice" if is_labelled else "null, as in the rows above"
            raise UserError(f"{path}: {name} {item}: label: expected {wanted}, got {labels}; {_REMEDY}")


def _check_same_texts(path: Path, found: dict[Key, Probe], origin: Path, first: dict[Key, Probe]) -> None:
    missing, others = first.keys() - found.keys(), found.keys() - first.keys()
    if missing or others:
        differences = [f"lacks {_named(min(missing))}"] if missing else []
        differences += [f"holds {_named(min(others))}"] if others else []
        raise UserError(f"{path}: {' and '.join(differences)}, unlike {origin}; {_REMEDY}")
    for key, row in found.items():
        if row.model_copy(update={"logprob": 0.0}) != first[key].model_copy(update={"logprob": 0.0}):
            raise UserError(f"{path}: {_named(key)}: label, tokens or bytes are not those of {origin}; {_REMEDY}")


def _grid(name: str, by_policy: dict[str, list[dict[Key, Probe]]]) -> ProbeGrid:
    keys = [key for key in next(iter(by_policy.values()))[0] if key[0] == name]
    places = {item: place for place, item in enumerate(dict.fromkeys(item for _, item, _ in keys))}
    shape = (len(places), 1 + max(choice for _, _, choice in keys))

    def arranged(rows_of_seed: dict[Key, Probe], field: str) -> Array:
        array = np.full(shape, np.nan)
        for key in keys:
            value = getattr(rows_of_seed[key], field)
            array[places[key[1]], key[2]] = np.nan if value is None else value
        return array

    first = next(iter(by_policy.values()))[0]
    return ProbeGrid(
        labels=arranged(first, "label")[:, 0],
        tokens=arranged(first, "tokens"),
        bytes=arranged(first, "bytes"),
        logprobs={
            policy: np.stack([arranged(rows_of_seed, "logprob") for rows_of_seed in by_seed], axis=1)
            for policy, by_seed in by_policy.items()
        },
    )


def _named(key: Key) -> str:
    probe, item, choice = key
    return f"{probe} {item} choice {choice}"
