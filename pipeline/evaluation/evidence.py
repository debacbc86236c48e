"""What an evaluation is computed from: read, and checked to be of this experiment and to belong together.

The stage `evaluate` and `make verify` read the same in the same way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.roster import Roster
from pipeline.data.schema import PromptRow, read_prompts
from pipeline.evaluation import judged
from pipeline.evaluation.judge_cards import check_refusal, read_cards
from pipeline.evaluation.judged import Judged
from pipeline.evaluation.probed import Probed, read_probes
from pipeline.evaluation.rows import REFUSAL, REMEDY, Completion, named
from pipeline.io import paths
from pipeline.io.errors import UserError, shown


@dataclass(frozen=True)
class Evidence:
    """All that an evaluation is computed from; `cards` by judge, `demonstrations` by prompt id, all there are."""

    judged: Judged
    probed: Probed
    cards: Mapping[str, Mapping[str, Any]]
    demonstrations: Mapping[str, Sequence[str]]


def gather(experiment: str, roster: Roster, settings: Any) -> Evidence:
    """Read what is to be evaluated, checked to belong together; raise UserError naming the file that does not.

    `settings` has the sections fluency, refusal, complete, probe and score.
    """
    policies = roster.policies_of(experiment)
    found = judged.read(
        experiment,
        roster.seeds,
        policies,
        settings.score.judges,
        settings.complete.samples_per_prompt,
        fluency=settings.fluency.kind == "causal_lm",
        refusal=settings.refusal is not None,
    )
    prompts = read_prompts(paths.formatted(experiment, "eval"))
    check(experiment, found, prompts, settings)
    if found.refusal_sha256 is not None:
        check_refusal(experiment, found.refusal_sha256)
    return Evidence(
        judged=found,
        probed=read_probes(experiment, roster.seeds, policies, settings.probe.tasks),
        cards=read_cards(experiment, found.judges),
        demonstrations={row.id: row.demonstrations for row in prompts if row.demonstrations},
    )


def check(experiment: str, judged: Judged, prompts: Sequence[PromptRow], settings: Any) -> None:
    """Raise UserError naming the file where completions or scores are not of these prompts and settings.

    `settings` has the sections complete and score.
    """
    for path, completions in _files(experiment, judged):
        _check_prompts(path, completions, {row.id: row for row in prompts}, paths.formatted(experiment, "eval"))
        _check_decoding(path, completions, settings.complete)
    _check_missing(experiment, judged, settings.score.max_missing_rate)


def _files(experiment: str, judged: Judged) -> Iterator[tuple[Path, Sequence[Completion]]]:
    for policy, by_seed in judged.completions.items():
        for seed, completions in zip(judged.seeds, by_seed, strict=True):
            yield paths.completions(experiment, seed, policy), completions


def _check_prompts(
    path: Path, completions: Sequence[Completion], prompts: Mapping[str, PromptRow], origin: Path
) -> None:
    """Refuse completions of other prompts than those of the evaluation split, and of some of them only."""
    for row in completions:
        known = prompts.get(row.prompt_id)
        if known is None:
            raise UserError(f"{path}: prompt {shown(row.prompt_id)}: not one of {origin}; {REMEDY}")
        for key in ("prompt", "categories"):
            if getattr(row, key) != getattr(known, key):
                raise UserError(f"{path}: {named(*row.key)}: {key}: expected what {origin} says; {REMEDY}")
    absent = prompts.keys() - {row.prompt_id for row in completions}
    if absent:
        raise UserError(f"{path}: lacks prompt {min(absent)} of {origin}; {REMEDY}")


def _check_decoding(path: Path, completions: Sequence[Completion], complete: Any) -> None:
    """Refuse completions that these settings cannot have made; they do not tell temperature and top-p."""
    for row in completions:
        place = f"{path}: {named(*row.key)}"
        if len(row.token_ids) > complete.max_new_tokens:
            raise UserError(
                f"{place}: token_ids: expected at most complete.max_new_tokens = {complete.max_new_tokens}, got "
                f"{len(row.token_ids)}; {REMEDY}"
            )
        is_analyzed = row.sample < complete.analyzed_samples
        if (row.logprobs is not None) != is_analyzed:
            wanted = "expected them" if is_analyzed else "expected none"
            raise UserError(
                f"{place}: logprobs: {wanted} at complete.analyzed_samples = {complete.analyzed_samples}; {REMEDY}"
            )


def _check_missing(experiment: str, judged: Judged, max_missing_rate: float) -> None:
    """Refuse scores that the stage `score` would not have left: too many of one judge are missing."""
    for policy, by_judge in judged.toxicities.items():
        refusals = [] if judged.refusals is None else [(REFUSAL, judged.refusals[policy])]
        for judge, scores in [*by_judge.items(), *refusals]:
            for seed, toxicity in zip(judged.seeds, scores.transpose(1, 0, 2), strict=True):
                missing = int(np.isnan(toxicity).sum())
                if missing > max_missing_rate * toxicity.size:
                    raise UserError(
                        f"{paths.scores(experiment, seed, policy)}: judge {judge!r} has no score of {missing} of "
                        f"{toxicity.size} completions, score.max_missing_rate allows {max_missing_rate:.1%}; {REMEDY}"
                    )
