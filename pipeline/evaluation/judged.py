"""Completions joined with their scores: `read` for numbers, strict and on one grid, `joined` for people, row by row."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.evaluation.rows import (
    FLUENCY,
    REFUSAL,
    REMEDY,
    Completion,
    FluencyRow,
    Key,
    Refused,
    Score,
    check_same_keys,
    check_unique,
    name_strays,
    named,
    read_completions,
    read_scores,
)
from pipeline.evaluation.statistics import Array
from pipeline.io import paths, records
from pipeline.io.errors import UserError, shown


@dataclass(frozen=True)
class Fluent:
    """What the fluency model says of all completions, each [P, S, K] by policy.

    `surprises` are negative log-probs a token in nats, NaN where a completion has no token; `cuts` are 1 where the
    model was shown the beginning of the text alone.
    """

    sha256: str
    surprises: dict[str, Array]
    cuts: dict[str, Array]


@dataclass(frozen=True)
class Judged:
    """All completions and scores of one experiment on one grid of P prompts, S seeds and K samples.

    `completions[policy][s]` is in the order of (prompt, sample); `toxicities[policy][judge]` is [P, S, K] in [0, 1],
    NaN where a completion could not be scored; `cuts` likewise, 1 where the judge was shown the beginning of the text
    alone, NaN where that was not recorded. `fluency` is None where the base model measures perplexity.
    `refusals[policy]` is [P, S, K], 1 where a completion declines to answer, 0 where not, NaN where that could not be
    told; it and `refusal_sha256`, the hash of the judge of refusals, are None where refusals are not judged.
    """

    prompt_ids: list[str]
    seeds: list[int]
    samples: int
    judges: dict[str, str]  # name -> sha256, in the order of score.judges
    completions: dict[str, list[list[Completion]]]
    toxicities: dict[str, dict[str, Array]]
    cuts: dict[str, dict[str, Array]]
    fluency: Fluent | None
    refusals: dict[str, Array] | None
    refusal_sha256: str | None

    @property
    def policies(self) -> list[str]:
        """Return the policies in the order of the roster."""
        return list(self.completions)


def read(
    experiment: str,
    seeds: Sequence[int],
    policies: Sequence[str],
    judges: Sequence[str],
    samples: int,
    fluency: bool = False,
    refusal: bool = False,
) -> Judged:
    """Read every file of seeds x policies and no other.

    `fluency` and `refusal` tell whether a fluency model and a judge of refusals have rows in them.
    A file of another seed or policy is ignored and named in one log line. Raises UserError naming the file when one
    is missing or malformed, when two hold different prompts or samples, when a prompt has not `samples` samples, when
    scores do not match completions one to one, and when a judge is unknown, absent or not the same in all files.
    """
    places = [(experiment, seed, policy) for seed in seeds for policy in policies]
    name_strays({path(*place) for place in places for path in (paths.completions, paths.scores)})
    completions = {
        policy: [read_completions(paths.completions(experiment, seed, policy)) for seed in seeds] for policy in policies
    }
    _check_grid(experiment, seeds, completions, samples)
    keys = [row.key for row in completions[policies[0]][0]]
    digests = _Digests()
    found = {
        policy: [
            _read_scores(paths.scores(experiment, seed, policy), keys, judges, fluency, refusal, digests)
            for seed in seeds
        ]
        for policy in policies
    }

    def grid(policy: str, value: Callable[[_Scores, Key], float | None]) -> Array:
        """Arrange a number of every completion of a policy as [P, S, K], NaN where it is None."""
        by_seed = [[value(scores, key) for key in keys] for scores in found[policy]]
        return np.stack([np.array(values, dtype=np.float64).reshape(-1, samples) for values in by_seed], axis=1)

    def by_judge(policy: str, value: Callable[[Score], float | None]) -> dict[str, Array]:
        def of(judge: str) -> Array:
            return grid(policy, lambda scores, key: value(scores.judged[judge][key]))

        return {judge: of(judge) for judge in judges}

    return Judged(
        prompt_ids=[prompt_id for prompt_id, _ in keys[::samples]],
        seeds=list(seeds),
        samples=samples,
        judges={judge: digests.judges[judge][0] for judge in judges},
        completions=completions,
        toxicities={policy: by_judge(policy, lambda row: row.toxicity) for policy in policies},
        cuts={policy: by_judge(policy, lambda row: row.cut) for policy in policies},
        fluency=Fluent(
            sha256=digests.fluency[FLUENCY][0],
            surprises={policy: grid(policy, lambda scores, key: _surprise(scores.likely[key])) for policy in policies},
            cuts={policy: grid(policy, lambda scores, key: scores.likely[key].cut) for policy in policies},
        )
        if fluency
        else None,
        refusals={policy: grid(policy, lambda scores, key: scores.refused[key].refusal) for policy in policies}
        if refusal
        else None,
        refusal_sha256=digests.refusal[REFUSAL][0] if refusal else None,
    )


class Joined(NamedTuple):
    """A row of completions, its toxicity by judge and whether it declines; None where missing or not judged."""

    completion: Mapping[str, Any]
    toxicity: dict[str, float | None]
    refusal: float | None


def joined(
    experiment: str, seeds: Sequence[int], policies: Iterable[str]
) -> dict[tuple[int, str], list[Joined]] | None:
    """Return by seed and policy what the files say, in their order; None where one of them is not on disk.

    They are read plainly: an evaluation was computed from them, and `read` checked them then.
    """
    places = [(seed, policy) for policy in policies for seed in seeds]
    needed = [place(experiment, *where) for where in places for place in (paths.completions, paths.scores)]
    if not all(path.exists() for path in needed):
        return None
    return {where: list(_joined(experiment, *where)) for where in places}


def _joined(experiment: str, seed: int, policy: str) -> Iterator[Joined]:
    toxicity: dict[Key, dict[str, float | None]] = {}
    refused: dict[Key, float | None] = {}
    for row in records.read_jsonl(paths.scores(experiment, seed, policy)):
        key = (row["prompt_id"], row["sample"])
        if "judge" in row:  # no row of the fluency model
            toxicity.setdefault(key, {})[row["judge"]] = row["toxicity"]
        elif REFUSAL in row:
            refused[key] = row[REFUSAL]
    for row in records.read_jsonl(paths.completions(experiment, seed, policy)):
        key = (row["prompt_id"], row["sample"])
        yield Joined(row, toxicity.get(key, {}), refused.get(key))


def _check_grid(
    experiment: str, seeds: Sequence[int], completions: dict[str, list[list[Completion]]], samples: int
) -> None:
    """Refuse files that do not hold the same prompts, samples and analyzed samples as the first of them."""
    found = {
        paths.completions(experiment, seed, policy): {row.key: row for row in rows_of_seed}
        for policy, by_seed in completions.items()
        for seed, rows_of_seed in zip(seeds, by_seed, strict=True)
    }
    first = next(iter(found))
    _check_samples(first, found[first].keys(), samples)
    for path, by_key in found.items():
        check_same_keys(path, by_key.keys(), first, found[first].keys())
        for key, row in by_key.items():
            expected = found[first][key]
            if row.prompt != expected.prompt:
                raise UserError(f"{path}: {named(*key)}: prompt: expected the prompt of {first}; {REMEDY}")
            if (row.logprobs is None) != (expected.logprobs is None):
                raise UserError(f"{path}: {named(*key)}: logprobs: expected them where {first} has them; {REMEDY}")


def _check_samples(path: Path, keys: Set[Key], samples: int) -> None:
    expected = {(prompt_id, sample) for prompt_id in {prompt_id for prompt_id, _ in keys} for sample in range(samples)}
    check_same_keys(path, keys, f"every prompt at complete.samples_per_prompt = {samples}", expected)


@dataclass
class _Digests:
    """The hash of everything that scored, by name, and the file that had it first: it must be one in all files."""

    judges: dict[str, tuple[str, Path]] = field(default_factory=dict)
    fluency: dict[str, tuple[str, Path]] = field(default_factory=dict)
    refusal: dict[str, tuple[str, Path]] = field(default_factory=dict)


@dataclass
class _Scores:
    """The rows of one file by what they are of, each by its key; those of the judges of toxicity by judge."""

    judged: dict[str, dict[Key, Score]]
    likely: dict[Key, FluencyRow] = field(default_factory=dict)
    refused: dict[Key, Refused] = field(default_factory=dict)


def _read_scores(
    path: Path, keys: Sequence[Key], judges: Sequence[str], fluency: bool, refusal: bool, digests: _Digests
) -> _Scores:
    """Read one file of scores, with the rows that `fluency` and `refusal` ask for.

    Raises UserError naming the file when it is malformed, when rows do not match `keys` one to one, and when a judge
    or model is unknown, absent, twice there, or not the one of `digests`, which learns those that it lacks.
    """
    kept = _sorted(path, judges, fluency, refusal, digests)
    parts: dict[str, Mapping[Key, object]] = {f"judge {judge!r}": by_key for judge, by_key in kept.judged.items()}
    parts |= {FLUENCY: kept.likely} if fluency else {}
    parts |= {REFUSAL: kept.refused} if refusal else {}
    for name, by_key in parts.items():
        check_same_keys(path, by_key.keys(), f"the file of completions ({name})", set(keys))
    return kept


def _sorted(path: Path, judges: Sequence[str], fluency: bool, refusal: bool, digests: _Digests) -> _Scores:
    found = read_scores(path)
    kept = _Scores({judge: {} for judge in judges})
    for number, row in enumerate(found, start=1):
        place = f"{path}:{number}"
        match row:
            case FluencyRow():
                _check_wanted(f"{place}: model", FLUENCY, fluency, "perplexity is measured under the base model")
                _check_digest(f"{place}: model_sha256", row.model, row.model_sha256, digests.fluency, path)
                kept.likely[row.key] = row
            case Refused():
                _check_wanted(f"{place}: refusal", REFUSAL, refusal, "the experiment judges no refusals")
                _check_digest(f"{place}: refusal_sha256", REFUSAL, row.refusal_sha256, digests.refusal, path)
                kept.refused[row.key] = row
            case Score():
                _check_known(place, row.judge, judges)
                _check_digest(f"{place}: judge_sha256", row.judge, row.judge_sha256, digests.judges, path)
                kept.judged[row.judge][row.key] = row
    check_unique(path, (_identity(row) for row in found))
    return kept


def _identity(row: Score | FluencyRow | Refused) -> tuple[object, ...]:
    """Return what no other row of the file may have too: the completion and who scored it."""
    match row:
        case Score():
            return *row.key, row.judge
        case FluencyRow():
            return *row.key, None
        case Refused():
            return *row.key, None, REFUSAL


def _check_known(place: str, judge: str, judges: Sequence[str]) -> None:
    if judge not in judges:
        expected = f"expected one of {', '.join(judges)} (score.judges)"
        raise UserError(f"{place}: judge: {expected}, got {shown(judge)}; {REMEDY}")


def _check_wanted(place: str, name: str, wanted: bool, since: str) -> None:
    if not wanted:
        raise UserError(f"{place}: expected no row of {name!r}, since {since}; {REMEDY}")


def _check_digest(place: str, name: str, digest: str, known: dict[str, tuple[str, Path]], path: Path) -> None:
    first, origin = known.setdefault(name, (digest, path))
    if digest != first:
        raise UserError(
            f"{place}: {name!r} is {digest} here and {first} in {origin}; score both with the same one: run `dvc repro`"
        )


def _surprise(row: FluencyRow) -> float | None:
    return None if row.logprob is None else -row.logprob / row.tokens
