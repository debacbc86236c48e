"""Preference pairs of a data set: its own answers, as it labels them or the other way round."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from transformers import PreTrainedTokenizerBase

from pipeline.config.sections import DatasetPreferences, ModelSection
from pipeline.data.schema import PromptRow
from pipeline.io.errors import UserError
from pipeline.policy.prompts import answer_ids, special_text
from pipeline.policy.types import Prompt
from pipeline.preferences.pairs import Pair
from pipeline.scorers.reward import Reward

# Why a row gives no pair: it has none, an answer says nothing, both are the same, the text of a special token would be
# read as that token, or an answer is too long.
LEFT_OUT = ("without_pair", "empty", "identical", "special_token", "too_long")


@dataclass(frozen=True)
class Answers:
    """How answers become token ids: by whom, of at most how many tokens with EOS, and how many with their prompt."""

    tokenizer: PreTrainedTokenizerBase
    model: ModelSection
    longest: int
    context: int | None


def dataset_pairs(
    rows: Sequence[PromptRow],
    prompts: Sequence[Prompt],
    answers: Answers,
    reward: Reward,
    preferences: DatasetPreferences,
) -> tuple[list[Pair], dict[str, float | int | None]]:
    """Return the pairs of rows that have one, their toxicity by the reward scorer, and what became of every row.

    An answer is never cut: one of more than `answers.longest` tokens, or that does not fit into the context with its
    prompt, takes its pair along. Toxicity is of what the reward reads, None where it could not be scored.
    """
    counts = dict.fromkeys(LEFT_OUT, 0)
    pairs = []
    for row, prompt in zip(rows, prompts, strict=True):
        found = _pair(row, prompt, answers, preferences.polarity)
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            counts[found] += 1
    pairs, cut = _scored(pairs, reward)
    chosen = [pair.chosen_toxicity for pair in pairs if pair.chosen_toxicity is not None]
    rejected = [pair.rejected_toxicity for pair in pairs if pair.rejected_toxicity is not None]
    return pairs, {
        "rows": len(rows),
        "pairs": len(pairs),
        "pair_rate": len(pairs) / len(rows),
        **counts,
        "unscored": 2 * len(pairs) - len(chosen) - len(rejected),
        "cut": cut,
        "chosen_toxicity_mean": fmean(chosen) if chosen else None,
        "rejected_toxicity_mean": fmean(rejected) if rejected else None,
    }


def check_dataset_pairs(counts: dict[str, float | int | None], scorer: str, file: Path) -> None:
    """Raise UserError when the data set gave no pair, which nothing can be trained on, or none could be scored."""
    if not counts["pairs"]:
        found = ", ".join(f"{counts[reason]} {reason}" for reason in LEFT_OUT)
        raise UserError(
            f"{file}: no pair to train on, of {counts['rows']} rows {found}; correct data, or raise "
            "preferences.max_completion_tokens"
        )
    if counts["chosen_toxicity_mean"] is None or counts["rejected_toxicity_mean"] is None:
        raise UserError(f"reward.scorer: {scorer} could score no chosen or no rejected answer; choose or repair it")


def _pair(row: PromptRow, prompt: Prompt, answers: Answers, polarity: str) -> Pair | str:
    """Return a row's pair, not scored yet, or the reason of `LEFT_OUT` for which it has none."""
    if row.chosen is None or row.rejected is None:
        return "without_pair"
    chosen, rejected = (row.chosen, row.rejected) if polarity == "as_labelled" else (row.rejected, row.chosen)
    if not chosen.strip() or not rejected.strip():
        return "empty"
    if any(special_text(text, answers.tokenizer) is not None for text in (chosen, rejected)):
        return "special_token"
    chosen_ids, rejected_ids = (
        answer_ids(text, prompt, answers.tokenizer, answers.model) for text in (chosen, rejected)
    )
    if chosen_ids == rejected_ids or chosen.split() == rejected.split():
        return "identical"
    longest = max(len(chosen_ids), len(rejected_ids))
    if longest > answers.longest:
        return "too_long"
    if answers.context is not None and len(prompt.token_ids) + longest > answers.context:
        return "too_long"
    return Pair(
        prompt_id=prompt.id,
        prompt=prompt.text,
        prompt_ids=list(prompt.token_ids),
        chosen=chosen,
        chosen_ids=chosen_ids,
        chosen_toxicity=None,
        rejected=rejected,
        rejected_ids=rejected_ids,
        rejected_toxicity=None,
    )


def _scored(pairs: Sequence[Pair], reward: Reward) -> tuple[list[Pair], int]:
    """Return the pairs with the toxicity of both answers, and how many answers the scorer had to cut."""
    prompts = [pair.prompt for pair in pairs] * 2
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    toxicity = reward.toxicity(prompts, texts) if pairs else []
    cut = sum(reward.cut(prompts, texts)) if pairs else 0
    sides = zip(pairs, toxicity[: len(pairs)], toxicity[len(pairs) :], strict=True)
    return [replace(pair, chosen_toxicity=chosen, rejected_toxicity=rejected) for pair, chosen, rejected in sides], cut
