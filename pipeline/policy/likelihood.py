"""How likely the policy, the reference and the base find completions, with no more passes than needed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from pipeline.policy.types import Completion, Policy


class SequenceLogprobs(NamedTuple):
    """Sums of a completion's log-probabilities in nats, at temperature 1 and untruncated."""

    policy: float
    reference: float
    base: float


@torch.no_grad()
def sequence_logprobs(policy: Policy, completions: Sequence[Completion]) -> list[SequenceLogprobs]:
    """Return one triple a completion, in order.

    The policy's own is recalled from sampling where that is exact. A policy without adapter is the base, and a
    reference without one too: then the numbers are the same and the KL is exactly 0.
    """
    own = policy.recall(completions).logprobs.double().sum(dim=1).tolist()
    base = reference = own
    if policy.has_adapter:
        with policy.base():
            base = reference = policy.analyze(completions).logprobs.double().sum(dim=1).tolist()
    if policy.reference_has_adapter:
        with policy.reference():
            reference = policy.analyze(completions).logprobs.double().sum(dim=1).tolist()
    return [SequenceLogprobs(*values) for values in zip(own, reference, base, strict=True)]
