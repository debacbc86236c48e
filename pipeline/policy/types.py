"""What goes in and out of a policy. B = completions, P = prompt length, T = completion length, V = vocabulary."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

Role = Literal["reference", "base"]


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

    @classmethod
    def given(cls, prompt: Prompt, token_ids: Sequence[int]) -> "Completion":
        """Return tokens that were not sampled here, to be analyzed: they have no text and no trace."""
        return cls(prompt, 0, tuple(token_ids), finished=False, text="", trace=Trace((), (), ()))

    @property
    def logprob(self) -> float:
        """Return the log-probability of the whole completion in nats, at temperature 1 and untruncated."""
        return math.fsum(self.trace.logprobs)

    @property
    def reading_order(self) -> tuple[int, str, int]:
        """Return a key by which completions of one prompt, and of prompts of like length, come together."""
        return len(self.prompt.token_ids), self.prompt.id, len(self.token_ids)

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
    def is_exact(self) -> bool:
        """Tell whether a token's log-probability is the same, up to float32 rounding, however the token is read."""
        ...

    @property
    def adapters(self) -> frozenset[str]:
        """Return which of `policy` and `reference` differ from the base by an adapter."""
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

    def analyze(self, completions: Sequence[Completion], *, recall: bool = False) -> Analysis:
        """Return log-probabilities, entropies and values of the completions' tokens, in the order given.

        `recall` is for completions of this very policy, without gradient: what was seen while sampling is taken where
        that is exact.
        """
        ...

    def acting_as(self, role: Role) -> AbstractContextManager[None]:
        """Let the same weights act as the reference, or as the untouched base, inside the block."""
        ...

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters to optimise: `adapter`, and `value_head` (a weight and a bias)."""
        ...
