"""L2, the seam: a policy completes prompts and analyzes completions; nothing above knows the architecture."""

from collections.abc import Callable
from typing import Any

from pipeline.policy.types import Analysis, Completion, Decoding, Policy, Prompt

__all__ = ["Analysis", "Completion", "Decoding", "Policy", "Prompt", "make_policy"]


def make_policy(architecture: str, model: Any, tokenizer: Any) -> Policy:
    """Wrap a loaded model as the policy of its architecture."""
    from pipeline.policy.causal import CausalPolicy

    policies: dict[str, Callable[[Any, Any], Policy]] = {"causal": CausalPolicy}
    return policies[architecture](model, tokenizer)
