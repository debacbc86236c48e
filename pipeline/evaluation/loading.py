"""Read what is to be judged: exactly seeds x policies of completions and scores, checked to be comparable."""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation import scored
from pipeline.evaluation.rows import FLUENCY, REFUSAL, REMEDY, Completion, Key, named, read_completions
from pipeline.evaluation.scored import Digests, Scored, check_same_keys
from pipeline.evaluation.spread import Array
from pipeline.io import paths
from pipeline.io.errors import UserError


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
    _name_strays(experiment, seeds, policies)
    completions = {
        policy: [read_completions(paths.completions(experiment, seed, policy)) for seed in seeds] for policy in policies
    }
    _check_grid(experiment, seeds, completions, samples)
    keys = [row.key for row in completions[policies[0]][0]]
    digests = Digests()
    found = {
        policy: [
            scored.read(paths.scores(experiment, seed, policy), keys, judges, fluency, refusal, digests)
            for seed in seeds
        ]
        for policy in policies
    }
    return Judged(
        prompt_ids=[prompt_id for prompt_id, _ in keys[::samples]],
        seeds=list(seeds),
        samples=samples,
        judges={judge: digests.judges[judge][0] for judge in judges},
        completions=completions,
        toxicities={
            policy: {judge: _gridded([one.toxicity[judge] for one in files], samples) for judge in judges}
            for policy, files in found.items()
        },
        cuts={
            policy: {judge: _gridded([one.cut[judge] for one in files], samples) for judge in judges}
            for policy, files in found.items()
        },
        fluency=_fluent(found, digests.fluency[FLUENCY][0], samples) if fluency else None,
        refusals=_refusals(found, samples) if refusal else None,
        refusal_sha256=digests.refusal[REFUSAL][0] if refusal else None,
    )


def _fluent(found: Mapping[str, Sequence[Scored]], sha256: str, samples: int) -> Fluent:
    return Fluent(
        sha256=sha256,
        surprises={policy: _gridded([one.surprise for one in files], samples) for policy, files in found.items()},
        cuts={policy: _gridded([one.surprise_cut for one in files], samples) for policy, files in found.items()},
    )


def _refusals(found: Mapping[str, Sequence[Scored]], samples: int) -> dict[str, Array]:
    return {policy: _gridded([one.refusal for one in files], samples) for policy, files in found.items()}


def _name_strays(experiment: str, seeds: Sequence[int], policies: Sequence[str]) -> None:
    expected = {
        place(experiment, seed, policy)
        for place in (paths.completions, paths.scores)
        for seed in seeds
        for policy in policies
    }
    folders = {path.parent.parent for path in expected}
    strays = sorted(str(path) for folder in folders for path in folder.rglob("*.jsonl") if path not in expected)
    if strays:
        logging.getLogger(__name__).info("ignored, not in %s: %s", paths.roster_file(), ", ".join(strays))


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


def _gridded(by_seed: list[list[float]], samples: int) -> Array:
    """Arrange values, by seed in the order of (prompt, sample), as [P, S, K]."""
    return np.stack([np.array(values, dtype=np.float64).reshape(-1, samples) for values in by_seed], axis=1)
