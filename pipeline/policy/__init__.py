"""L2, the seam: a policy completes prompts and analyzes completions; nothing above knows the architecture."""

from collections.abc import Callable
from typing import Any

from pipeline.policy.types import Analysis, Completion, Decoding, Policy, Prompt

__all__ = ["Analysis", "Completion", "Decoding", "Policy", "Prompt", "make_policy"]


def make_policy(architecture: str, model: Any, tokenizer: Any) -> Policy:
    """Wrap a loaded model as the policy of its architecture; raise UserError for one that it would misread."""
    from pipeline.policy.causal import CausalPolicy
    from pipeline.policy.language_model import LanguageModelPolicy
    from pipeline.policy.seq2seq import Seq2SeqPolicy

    policies: dict[str, Callable[[Any, Any], LanguageModelPolicy]] = {
        "causal": CausalPolicy,
        "seq2seq": Seq2SeqPolicy,
    }
    policy = policies[architecture](model, tokenizer)
    policy.check_output_layer()
    return policy
