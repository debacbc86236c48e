"""A scorer of texts in the shape of the reward model that TRL's PPO asks for."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class TextReward(nn.Module):
    """Score completions without their prompts.

    TRL runs the module that `base_model_prefix` names over prompt + completion [B, P + T], hands its last hidden state
    to `score`, and reads the result at the completion's last real token: here every position holds the score.
    `tokens` counts the real tokens of all completions that were scored.
    """

    base_model_prefix = "backbone"

    def __init__(
        self, score: Callable[[Sequence[str]], list[float]], decode: Callable[[list[int]], str], prompt_tokens: int
    ) -> None:
        super().__init__()
        self.backbone = _Backbone(score, decode, prompt_tokens)
        self.score = nn.Identity()

    @property
    def tokens(self) -> int:
        """Return how many real completion tokens were scored so far."""
        return self.backbone.tokens


class _Backbone(nn.Module):
    def __init__(
        self, score: Callable[[Sequence[str]], list[float]], decode: Callable[[list[int]], str], prompt_tokens: int
    ) -> None:
        super().__init__()
        self.score_texts, self.decode, self.prompt_tokens = score, decode, prompt_tokens
        self.tokens = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        """Return an output whose last hidden state is the score, [B, P + T, 1]."""
        completions = input_ids[:, self.prompt_tokens :]
        real = attention_mask[:, self.prompt_tokens :].bool()
        self.tokens += int(real.sum())
        texts = [self.decode(row[keep].tolist()) for row, keep in zip(completions, real, strict=True)]
        whole = torch.tensor(self.score_texts(texts), device=input_ids.device)[:, None, None]
        return SimpleNamespace(hidden_states=(whole.expand(-1, input_ids.shape[1], 1),))
