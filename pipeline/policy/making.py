"""Make the policy of a model: the seam behind which nothing knows the architecture."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.policy.language_model import LanguageModelPolicy


def make_policy(architecture: str, model: Any, tokenizer: Any) -> "LanguageModelPolicy":
    """Wrap a loaded model as the policy of its architecture; raise UserError for one that it would misread."""
    from pipeline.policy.causal import CausalPolicy
    from pipeline.policy.language_model import LanguageModelPolicy
    from pipeline.policy.seq2seq import Seq2SeqPolicy

    policies: dict[str, Callable[[Any, Any], LanguageModelPolicy]] = {
        "causal": CausalPolicy,
        "seq2seq": Seq2SeqPolicy,
    }
    policy = policies[architecture](model, tokenizer)
    policy.check_model()
    return policy


def reads_on(architecture: str) -> bool:
    """Tell whether prompt and completion are one sequence; elsewhere a completion begins a sequence of its own."""
    return {"causal": True, "seq2seq": False}[architecture]


def context_of(architecture: str, config: Any) -> int | None:
    """Return the policy's `context` by the configuration of its model alone; None where there is no limit."""
    from pipeline.policy.causal import longest_context

    return longest_context(config) if reads_on(architecture) else None
