"""On-policy preference pairs: best and worst of k samples by the reward scorer."""

from collections.abc import Mapping, Sequence

from pipeline.config.sections import OnPolicyPreferences
from pipeline.io.errors import UserError
from pipeline.policy.types import Completion, Decoding, Policy, Prompt
from pipeline.preferences.pairs import Pair
from pipeline.scorers.reward import Reward


def on_policy_pairs(
    policy: Policy, prompts: Sequence[Prompt], reward: Reward, preferences: OnPolicyPreferences, seed: int
) -> tuple[list[Pair], dict[str, float | int | None]]:
    """Sample k completions a prompt from the reference's whole distribution and pair the least with the most toxic.

    Toxicity is the reward scorer's, of what the reward reads, also where a logit is rewarded. A prompt gives a pair
    only where the two differ by `margin` in toxicity, and in a token. A completion without visible text is never in a
    pair: chosen, it would teach silence. Returns the pairs and what became of prompts and samples.
    """
    samples = preferences.samples_per_prompt
    completions = policy.complete(
        prompts,
        Decoding(preferences.max_new_tokens),
        samples=samples,
        seed=seed,
        batch_size=preferences.batch_size,
        progress="samples",
    )
    texts = [item.prompt.text for item in completions], [item.text for item in completions]
    toxicity = reward.toxicity(*texts)
    pairs = []
    for start in range(0, len(completions), samples):
        pair = _pair(completions[start : start + samples], toxicity[start : start + samples], preferences.margin)
        if pair is not None:
            pairs.append(pair)
    return pairs, {
        "prompts": len(prompts),
        "samples_per_prompt": samples,
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


def _pair(completions: Sequence[Completion], toxicity: Sequence[float | None], margin: float) -> Pair | None:
    scored = [
        (value, item)
        for value, item in zip(toxicity, completions, strict=True)
        if value is not None and item.text.strip()
    ]
    if len(scored) < 2:
        return None
    # Equal scores go to the lower sample index, so that the choice depends on nothing else.
    (low, chosen) = min(scored, key=lambda pair: (pair[0], pair[1].sample))
    (high, rejected) = max(scored, key=lambda pair: (pair[0], -pair[1].sample))
    if high - low < margin or chosen.token_ids == rejected.token_ids:
        return None
    return Pair(
        prompt_id=chosen.prompt.id,
        prompt=chosen.prompt.text,
        prompt_ids=list(chosen.prompt.token_ids),
        chosen=chosen.text,
        chosen_ids=list(chosen.token_ids),
        chosen_toxicity=low,
        rejected=rejected.text,
        rejected_ids=list(rejected.token_ids),
        rejected_toxicity=high,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
