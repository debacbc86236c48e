"""What goes in and out of a policy. B = completions, P = prompt length, T = completion length, V = vocabulary."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Prompt:
    """One tokenized prompt; `id` keys its sampling noise."""

    id: str
    text: str
    token_ids: tuple[int, ...]


class Trace(NamedTuple):
    """What the policy saw of each token while it drew it: log-probability and entropy (nats, at temperature 1 and
    untruncated), and the value before the token."""

    logprobs: tuple[float, ...]
    entropy: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Completion:
    """One sampled completion: exactly the tokens the policy emitted, EOS included where it did."""

    prompt: Prompt
    sample: int
    token_ids: tuple[int, ...]
    finished: bool
    text: str
    trace: Trace

    @property
    def logprob(self) -> float:
        """Return the log-probability of the whole completion in nats, at temperature 1 and untruncated."""
        return math.fsum(self.trace.logprobs)

    @property
    def text_token_ids(self) -> tuple[int, ...]:
        """Return the tokens without the EOS that ended it."""
        return self.token_ids[:-1] if self.finished else self.token_ids


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn: temperature > 0, nucleus mass 0 < top_p <= 1, at most max_new_tokens tokens."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


class Analysis(NamedTuple):
    """What the policy thinks of given completions, token by token.

    logprobs, entropy, values: [B, T] float32, in nats for the first two and zero on padding; `values[b, t]` is the
    value before token t. mask: [B, T], True on real tokens.
    """

    logprobs: Tensor
    entropy: Tensor
    values: Tensor
    mask: Tensor


class Policy(Protocol):
    """The seam between what is trained and how: all that a method knows of a model."""

    @property
    def device(self) -> torch.device:
        """Return where its tensors are."""
        ...

    @property
    def vocabulary(self) -> int:
        """Return how many token ids it knows."""
        ...

    @property
    def context(self) -> int | None:
        """Return how many tokens of prompt and completion together it can read; None where there is no limit."""
        ...

    @property
    def ratio_tolerance(self) -> float:
        """Return the largest |ratio - 1| of a token's probability that rounding alone explains."""
        ...

    @property
    def has_adapter(self) -> bool:
        """Tell whether the policy differs from the base."""
        ...

    @property
    def reference_has_adapter(self) -> bool:
        """Tell whether the reference differs from the base."""
        ...

    def complete(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        *,
        samples: int,
        seed: int,
        batch_size: int,
        progress: str | None = None,
    ) -> list[Completion]:
        """Sample completions, ordered as the prompts are, all samples of a prompt together.

        `batch_size` completions are drawn at once; `progress` names a progress bar.
        """
        ...

    def analyze(self, completions: Sequence[Completion]) -> Analysis:
        """Return log-probabilities, entropies and values of the completions' tokens, in the order given."""
        ...

    def recall(self, completions: Sequence[Completion]) -> Analysis:
        """Return what `analyze` would, without gradient, from what was seen while sampling where that is exact."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Let the same weights act as the reference inside the block."""
        ...

    def base(self) -> AbstractContextManager[None]:
        """Let the same weights act as the untouched base inside the block."""
        ...

    def eval(self) -> None:
        """Switch dropout off, for rollout and update."""
        ...

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters to optimise: `adapter` and `value_head`."""
        ...
