"""A policy's completions of the evaluation prompts, and how likely it, the reference and the base find them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.config.sections import CompleteSection
from pipeline.data.schema import PromptRow
from pipeline.io.errors import NotFiniteError
from pipeline.policy.likelihood import sequence_logprobs
from pipeline.policy.types import Decoding, Policy, Prompt


def completion_rows(
    policy: Policy, rows: Sequence[PromptRow], prompts: Sequence[Prompt], complete: CompleteSection, seed: int
) -> Iterator[Mapping[str, Any]]:
    """Yield one row a completion, sorted by prompt id and sample index.

    The first `analyzed_samples` of every prompt also carry the sum of their tokens' log-probabilities (nats, at
    temperature 1, untruncated) under the policy, the reference and the base. Raises NotFiniteError when one is no
    number.
    """
    completions = policy.complete(
        prompts,
        Decoding(complete.max_new_tokens, complete.temperature, complete.top_p),
        samples=complete.samples_per_prompt,
        seed=seed,
        batch_size=complete.batch_size,
        progress="completions",
    )
    completions.sort(key=lambda item: (item.prompt.id, item.sample))
    analyzed = [item for item in completions if item.sample < complete.analyzed_samples]
    likelihoods = sequence_logprobs(policy, analyzed)
    if not all(math.isfinite(value) for found in likelihoods for value in found):
        raise NotFiniteError("log-likelihoods under the policy, the reference or the base are not finite")
    logprobs = {
        (item.prompt.id, item.sample): found._asdict() for item, found in zip(analyzed, likelihoods, strict=True)
    }
    categories = {row.id: row.categories for row in rows}
    for item in completions:
        yield {
            "prompt_id": item.prompt.id,
            "prompt": item.prompt.text,
            "categories": categories[item.prompt.id],
            "sample": item.sample,
            "completion": item.text,
            "token_ids": list(item.token_ids),
            "finished": item.finished,
            "logprobs": logprobs.get((item.prompt.id, item.sample)),
        }
