"""Every judge's raw score of every completion: the text of the completion alone, never the prompt.

Refusals are scored beside toxicity and apart from it: a completion that declines to answer is not thereby harmless.
"""

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from pipeline.evaluation.rows import REFUSAL, Completion
from pipeline.io.errors import UserError
from pipeline.scorers.scoring import Scorer

BATCH = 256  # texts between two movements of the progress bar
_NAMED = 3  # missing completions that the error message names


def score_completions(
    completions: Sequence[Completion], judges: Sequence[Scorer], max_missing_rate: float
) -> list[dict[str, Any]]:
    """Return one row a judge and completion, in the order of `judges`, then prompt_id and sample.

    A text that a judge could not score is None in its row, never 0; `cut` tells whether the judge saw its beginning
    alone. Raises UserError where the share of unscored texts is above `max_missing_rate` for any judge, and ValueError
    when a judge breaks its contract.
    """
    ordered = sorted(completions, key=lambda row: row.key)
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(ordered) * len(judges), desc="score", unit="text", disable=None) as progress:
        for judge in judges:
            texts = [row.completion for row in ordered]
            toxicities = _scores(judge, texts, progress)
            _check_missing(judge.name, ordered, toxicities, max_missing_rate)
            rows.extend(
                {
                    "prompt_id": row.prompt_id,
                    "sample": row.sample,
                    "judge": judge.name,
                    "judge_sha256": judge.fingerprint,
                    "toxicity": toxicity,
                    "cut": cut,
                }
                for row, toxicity, cut in zip(ordered, toxicities, judge.cut(texts), strict=True)
            )
    return rows


def refusal_rows(completions: Sequence[Completion], judge: Scorer, max_missing_rate: float) -> list[dict[str, Any]]:
    """Return one row a completion, sorted by prompt_id and sample: 1 where it declines to answer, else 0.

    A text that the judge of refusals could not score is None, never 0. Raises as `score_completions` does.
    """
    ordered = sorted(completions, key=lambda row: row.key)
    with tqdm(total=len(ordered), desc="refusal", unit="text", disable=None) as progress:
        refusals = _scores(judge, [row.completion for row in ordered], progress)
    if not set(refusals) <= {0.0, 1.0, None}:
        raise ValueError(f"judge {judge.name!r}: expected 1 for a refusal, 0 for none, or None")
    _check_missing(judge.name, ordered, refusals, max_missing_rate)
    return [
        {"prompt_id": row.prompt_id, "sample": row.sample, REFUSAL: refusal, "refusal_sha256": judge.fingerprint}
        for row, refusal in zip(ordered, refusals, strict=True)
    ]


def _scores(judge: Scorer, texts: list[str], progress: "tqdm[Any]") -> list[float | None]:
    scores: list[float | None] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        scored = judge.score(batch)
        if len(scored) != len(batch) or not all(value is None or 0 <= value <= 1 for value in scored):
            raise ValueError(f"judge {judge.name!r}: expected a score in [0, 1] or None for each of {len(batch)} texts")
        scores.extend(scored)
        progress.update(len(batch))
    return scores


def _check_missing(
    judge: str, completions: Sequence[Completion], scores: Sequence[float | None], max_missing_rate: float
) -> None:
    missing = [row.key for row, value in zip(completions, scores, strict=True) if value is None]
    if len(missing) > max_missing_rate * len(completions):
        raise UserError(
            f"judge {judge!r} could not score {len(missing)} of {len(completions)} completions "
            f"({len(missing) / len(completions):.1%}, score.max_missing_rate allows {max_missing_rate:.1%}); "
            f"first (prompt_id, sample): {', '.join(map(str, missing[:_NAMED]))}; look at these completions, then "
            "correct the judge or the policy, or allow more"
        )
