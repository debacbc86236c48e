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
    own = policy.analyze(completions, recall=True).logprobs.double().sum(dim=1).tolist()
    base = reference = own
    if "policy" in policy.adapters:
        with policy.acting_as("base"):
            base = reference = policy.analyze(completions).logprobs.double().sum(dim=1).tolist()
    if "reference" in policy.adapters:
        with policy.acting_as("reference"):
            reference = policy.analyze(completions).logprobs.double().sum(dim=1).tolist()
    return [SequenceLogprobs(*values) for values in zip(own, reference, base, strict=True)]
