"""params.yaml: the experiments and seeds that plain `dvc repro` builds, and what DVC makes its stages of.

DVC cannot ask an experiment file which methods it names. So every experiment's seeds and methods are spelled out below
the two lists, as `make dag` writes them: `trainings` by method and `policies`, each entry named as its stages are.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from pipeline.config.declarations import rooms
from pipeline.config.fields import Name, Section, Seed
from pipeline.config.loader import refusal, validated
from pipeline.io import paths

REFERENCE = "reference"
REMEDY = "run `make dag`"


class TrainingEntry(Section):
    """One training of one method."""

    experiment: Name
    seed: Seed


class PolicyEntry(TrainingEntry):
    """One policy that is judged."""

    policy: Name


class Roster(Section):
    """What plain `dvc repro` builds."""

    experiments: Annotated[list[Name], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    trainings: dict[Name, dict[str, TrainingEntry]]
    policies: dict[str, PolicyEntry]

    def policies_of(self, experiment: str) -> list[str]:
        """Return the policies of an experiment, the reference first, in the order in which methods are listed."""
        found = {entry.policy for entry in self.policies.values() if entry.experiment == experiment}
        return [policy for policy in (REFERENCE, *rooms().methods) if policy in found]


def load_roster() -> Roster:
    """Load and check `params.yaml`; raise UserError listing every problem."""
    return _checked(validated(paths.roster_file(), Roster))


def load_lists() -> Roster:
    """Load and check the two lists of `params.yaml` alone, whatever is spelled out below them."""
    return _checked(validated(paths.roster_file(), Roster, trainings={}, policies={}))


def _checked(roster: Roster) -> Roster:
    problems = [
        f"{key}: expected every entry once; remove the second of each"
        for key, values in (("experiments", roster.experiments), ("seeds", roster.seeds))
        if len(set(values)) != len(values)
    ]
    if problems:
        raise refusal(paths.roster_file(), problems)
    return roster


def spelled_out(
    experiments: Sequence[str], seeds: Sequence[int], methods: Sequence[str], named: Callable[[str], Sequence[str]]
) -> dict[str, Any]:
    """Return `trainings` and `policies` for params.yaml, given all methods and those that an experiment names."""
    places = [(experiment, seed) for experiment in experiments for seed in seeds]
    trainings: dict[str, Any] = {method: {} for method in methods}
    policies: dict[str, Any] = {}
    for experiment, seed in places:
        place = {"experiment": experiment, "seed": seed}
        own = [method for method in methods if method in named(experiment)]
        for method in own:
            trainings[method][f"{experiment}-{seed}"] = {**place}
        for policy in (REFERENCE, *own):
            policies[f"{experiment}-{seed}-{policy}"] = {**place, "policy": policy}
    return {"trainings": trainings, "policies": policies}


def check_spelled_out(roster: Roster, experiment: str, methods: Sequence[str]) -> None:
    """Raise UserError unless params.yaml spells out an experiment's seeds and methods as they are now."""
    expected = spelled_out([experiment], roster.seeds, methods, lambda _: methods)["policies"]
    found = {name: entry.model_dump() for name, entry in roster.policies.items() if entry.experiment == experiment}
    trained = {
        f"{name}-{method}"
        for method, entries in roster.trainings.items()
        for name, entry in entries.items()
        if entry.experiment == experiment
    }
    named = {name for name, entry in expected.items() if entry["policy"] != REFERENCE}
    differing = sorted((found.keys() ^ expected.keys()) | (trained ^ named))
    differing += [name for name in found.keys() & expected.keys() if found[name] != expected[name]]
    if differing:
        raise refusal(
            paths.roster_file(),
            [
                f"policies: {differing[0]}: not as the seeds above and the methods of {experiment} are now; "
                f"{REMEDY}, then `dvc repro` again"
            ],
        )
