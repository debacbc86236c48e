"""Read what is to be judged: exactly seeds x policies of completions and scores, checked to be comparable."""

import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import paths
from pipeline.config.shown import shown
from pipeline.errors import UserError
from pipeline.evaluation import rows
from pipeline.evaluation.rows import REMEDY, Completion, Key, Score, check_unique, named, read_completions
from pipeline.evaluation.statistics import Array


@dataclass(frozen=True)
class Judged:
    """All completions and scores of one experiment on one grid of P prompts, S seeds and K samples.

    `completions[policy][s]` is in the order of (prompt, sample); `toxicities[policy][judge]` is [P, S, K] in [0, 1],
    NaN where a completion could not be scored.
    """

    prompt_ids: list[str]
    seeds: list[int]
    samples: int
    judges: dict[str, str]  # name -> sha256, in the order of score.judges
    completions: dict[str, list[list[Completion]]]
    toxicities: dict[str, dict[str, Array]]

    @property
    def policies(self) -> list[str]:
        """Return the policies in the order of the roster."""
        return list(self.completions)


def read(experiment: str, seeds: Sequence[int], policies: Sequence[str], judges: Sequence[str], samples: int) -> Judged:
    """Read every file of seeds x policies and no other.

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
    digests: dict[str, tuple[str, Path]] = {}
    toxicities = {
        policy: _toxicities(
            [_scores(paths.scores(experiment, seed, policy), keys, judges, digests) for seed in seeds], judges, samples
        )
        for policy in policies
    }
    return Judged(
        prompt_ids=[prompt_id for prompt_id, _ in keys[::samples]],
        seeds=list(seeds),
        samples=samples,
        judges={judge: digests[judge][0] for judge in judges},
        completions=completions,
        toxicities=toxicities,
    )


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
        _check_same_keys(path, by_key.keys(), first, found[first].keys())
        for key, row in by_key.items():
            expected = found[first][key]
            if row.prompt != expected.prompt:
                raise UserError(f"{path}: {named(*key)}: prompt: expected the prompt of {first}; {REMEDY}")
            if (row.logprobs is None) != (expected.logprobs is None):
                raise UserError(f"{path}: {named(*key)}: logprobs: expected them where {first} has them; {REMEDY}")


def _check_samples(path: Path, keys: Set[Key], samples: int) -> None:
    expected = {(prompt_id, sample) for prompt_id in {prompt_id for prompt_id, _ in keys} for sample in range(samples)}
    _check_same_keys(path, keys, f"every prompt at complete.samples_per_prompt = {samples}", expected)


def _check_same_keys(path: Path, found: Set[Key], origin: Path | str, expected: Set[Key]) -> None:
    if expected - found:
        others = f" (and holds {named(*min(found - expected))}, which that lacks)" if found - expected else ""
        raise UserError(f"{path}: lacks {named(*min(expected - found))}, which {origin} has{others}; {REMEDY}")
    if found - expected:
        raise UserError(f"{path}: holds {named(*min(found - expected))}, which {origin} lacks; {REMEDY}")


def _scores(
    path: Path, keys: list[Key], judges: Sequence[str], digests: dict[str, tuple[str, Path]]
) -> dict[str, list[float]]:
    """Read one file as judge -> toxicities in the order of `keys`; `digests` holds each judge's hash and its file."""
    found = rows.read(path, Score)
    by_judge: dict[str, dict[Key, float]] = {judge: {} for judge in judges}
    for number, row in enumerate(found, start=1):
        if row.judge not in by_judge:
            raise UserError(
                f"{path}:{number}: judge: expected one of {', '.join(judges)} (score.judges), got {shown(row.judge)}; "
                f"{REMEDY}"
            )
        digest, origin = digests.setdefault(row.judge, (row.judge_sha256, path))
        if row.judge_sha256 != digest:
            raise UserError(
                f"{path}:{number}: judge_sha256: {row.judge!r} is {row.judge_sha256} here and {digest} in {origin}; "
                "score both with the same judge: run `dvc repro`"
            )
        by_judge[row.judge][row.key] = float("nan") if row.toxicity is None else row.toxicity
    check_unique(path, ((*row.key, row.judge) for row in found))
    for judge, toxicity in by_judge.items():
        _check_same_keys(path, toxicity.keys(), f"the file of completions (judge {judge!r})", set(keys))
    return {judge: [toxicity[key] for key in keys] for judge, toxicity in by_judge.items()}


def _toxicities(by_seed: list[dict[str, list[float]]], judges: Sequence[str], samples: int) -> dict[str, Array]:
    """Arrange scores, by seed and judge in the order of (prompt, sample), as judge -> [P, S, K]."""
    return {
        judge: np.stack([np.array(scores[judge], dtype=np.float64).reshape(-1, samples) for scores in by_seed], axis=1)
        for judge in judges
    }
