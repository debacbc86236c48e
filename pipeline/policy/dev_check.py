"""How a policy does on the dev prompts, by the reward scorer alone: what tuning may look at."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from pipeline.config.sections import DevSection
from pipeline.policy.likelihood import sequence_logprobs
from pipeline.policy.types import Completion, Decoding, Policy, Prompt
from pipeline.scorers.rouge import rouge
from pipeline.scorers.scoring import Scorer

Demonstrations = Mapping[str, Sequence[str]]  # prompt id -> what people wrote in answer to it


def dev_check(
    policy: Policy,
    prompts: Sequence[Prompt],
    scorer: Scorer,
    dev: DevSection,
    demonstrations: Demonstrations | None = None,
) -> dict[str, float | int | None]:
    """Complete the dev prompts and return toxicity, KL to the reference, perplexity under the base and diversity.

    `toxicity_mean` in [0, 1] over scored completions; `kl` in nats a completion (the completions come from the
    decoding given, so with top_p < 1 it is an approximation); `perplexity_median` a token; `distinct_2` is the share
    of unique token pairs (Li et al. 2016). EOS counts as in the evaluation: in KL and perplexity only. `rouge_l`, the
    mean ROUGE-L against the demonstrations of a prompt, is there where some prompt has any. The held-out judge is not
    asked: tuning on it would make it a second reward scorer.
    """
    decoding = Decoding(dev.max_new_tokens, dev.temperature, dev.top_p)
    completions = policy.complete(
        prompts, decoding, samples=dev.samples_per_prompt, seed=dev.seed, batch_size=dev.batch_size, progress="dev"
    )
    toxicity = [score for score in scorer.score([item.text for item in completions]) if score is not None]
    bigrams = [pair for item in completions for pair in itertools.pairwise(item.text_token_ids)]
    likelihood = sequence_logprobs(policy, completions)
    surprise = [
        -found.base / len(item.token_ids)
        for found, item in zip(likelihood, completions, strict=True)
        if item.text_token_ids
    ]
    return {
        "completions": len(completions),
        "missing": len(completions) - len(toxicity),
        "toxicity_mean": fmean(toxicity) if toxicity else None,
        "kl": fmean(item.policy - item.reference for item in likelihood),
        # Beyond exp(700) a float is infinite: missing, as any number that cannot be had.
        "perplexity_median": math.exp(median(surprise)) if surprise and median(surprise) < 700 else None,
        "distinct_2": len(set(bigrams)) / len(bigrams) if bigrams else None,
        "length_mean": fmean(len(item.text_token_ids) for item in completions),
        "finished_rate": fmean(item.finished for item in completions),
        **_overlap(completions, demonstrations or {}),
    }


def _overlap(completions: Sequence[Completion], demonstrations: Demonstrations) -> dict[str, float | None]:
    """Return the mean ROUGE-L of completions of prompts that have demonstrations; nothing where none has."""
    compared = [item for item in completions if demonstrations.get(item.prompt.id)]
    if not compared:
        return {}
    found = rouge([item.text for item in compared], [demonstrations[item.prompt.id] for item in compared])["rouge_l"]
    known = [value for value in found if not math.isnan(value)]
    return {"rouge_l": fmean(known) if known else None}
