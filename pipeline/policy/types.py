"""What goes in and out of a policy. B = completions, P = prompt length, T = completion length, V = vocabulary."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Prompt:
    """One tokenized prompt; `id` keys its sampling noise."""

    id: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """One sampled completion: exactly the tokens the policy emitted, EOS included where it did.

    `logprob` is the sum of the tokens' log-probabilities (nats) under the policy at temperature 1, untruncated.
    """

    prompt: Prompt
    sample: int
    token_ids: tuple[int, ...]
    finished: bool
    logprob: float
    text: str

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
        """Sample completions, ordered as the prompts are, all samples of a prompt together."""
        ...

    def analyze(self, completions: Sequence[Completion]) -> Analysis:
        """Return log-probabilities, entropies and values of the completions' tokens, in the order given."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Let the same weights act as the reference inside the block."""
        ...

    def base(self) -> AbstractContextManager[None]:
        """Let the same weights act as the untouched base inside the block."""
        ...

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters to optimise: `adapter` and `value_head`."""
        ...
