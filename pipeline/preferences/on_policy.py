"""Samples on policy, scored by the reward scorer, and their pairs: the best and the worst of k."""

from collections.abc import Mapping, Sequence

from pipeline.config.sections import OnPolicyPreferences
from pipeline.io.errors import UserError
from pipeline.policy.types import Completion, Decoding, Policy, Prompt
from pipeline.preferences.pairs import PromptSamples, Sample, pairs_of
from pipeline.scorers.reward import Reward


def sample_on_policy(
    policy: Policy, prompts: Sequence[Prompt], reward: Reward, preferences: OnPolicyPreferences, seed: int
) -> tuple[list[PromptSamples], dict[str, float | int | None]]:
    """Sample k completions a prompt from the reference's whole distribution and pair the least with the most toxic.

    Toxicity is the reward scorer's, of what the reward reads, also where a logit is rewarded. A prompt gives a pair
    only where the two differ by `margin` in toxicity, and in a token. A completion without visible text is never in a
    pair: chosen, it would teach silence. Returns all samples and what became of prompts and samples.
    """
    count = preferences.samples_per_prompt
    completions = policy.complete(
        prompts,
        Decoding(preferences.max_new_tokens),
        samples=count,
        seed=seed,
        batch_size=preferences.batch_size,
        progress="samples",
    )
    texts = [item.prompt.text for item in completions], [item.text for item in completions]
    toxicity = reward.toxicity(*texts)
    rows = [
        _scored(completions[start : start + count], toxicity[start : start + count], preferences.margin)
        for start in range(0, len(completions), count)
    ]
    pairs = pairs_of(rows)
    return rows, {
        "prompts": len(prompts),
        "samples_per_prompt": count,
        "pairs": len(pairs),
        "pair_rate": len(pairs) / len(prompts),
        "unscored": toxicity.count(None),
        "cut": sum(reward.cut(*texts)),
        "sampled_toxicity_mean": _mean(toxicity),
        "chosen_toxicity_mean": _mean([pair.chosen_toxicity for pair in pairs]),
        "rejected_toxicity_mean": _mean([pair.rejected_toxicity for pair in pairs]),
    }


def check_pairs(counts: Mapping[str, float | int | None], scorer: str, preferences: OnPolicyPreferences) -> None:
    """Raise UserError when the prompts gave no pair, which nothing can be trained on."""
    if counts["sampled_toxicity_mean"] is None:
        raise UserError(
            f"reward.scorer: {scorer} could score none of {counts['unscored']} completions; choose or repair it"
        )
    if not counts["pairs"]:
        raise UserError(
            f"preferences.margin: no prompt's {preferences.samples_per_prompt} samples differ by "
            f"{preferences.margin} in toxicity, so there is no pair; lower it or raise preferences.samples_per_prompt"
        )


def _scored(completions: Sequence[Completion], toxicity: Sequence[float | None], margin: float) -> PromptSamples:
    """Return the samples of one prompt, with the pair that they give, if any."""
    samples = [
        Sample(item.text, list(item.token_ids), value) for item, value in zip(completions, toxicity, strict=True)
    ]
    prompt, pair = completions[0].prompt, _pair(samples, margin)
    return PromptSamples(prompt.id, prompt.text, list(prompt.token_ids), samples, [pair] if pair else [])


def _pair(samples: Sequence[Sample], margin: float) -> tuple[int, int] | None:
    """Return the places of the least and of the most toxic sample; None where they do not differ enough."""
    scored = [
        (item.toxicity, place) for place, item in enumerate(samples) if item.toxicity is not None and item.text.strip()
    ]
    if len(scored) < 2:
        return None
    # Equal scores go to the lower sample index, so that the choice depends on nothing else.
    (low, chosen) = min(scored)
    (high, rejected) = max(scored, key=lambda pair: (pair[0], -pair[1]))
    if high - low < margin or samples[chosen].token_ids == samples[rejected].token_ids:
        return None
    return chosen, rejected


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
