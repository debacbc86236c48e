"""A decoder-only policy: prompt and completion are one sequence."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedTokenizerBase

from pipeline.policy.cache import join
from pipeline.policy.language_model import READ_AT_ONCE, Continuation, LanguageModelPolicy
from pipeline.policy.types import Completion, Prompt


class CausalPolicy(LanguageModelPolicy):
    """Sample from and analyze with a causal language model, with or without PEFT adapters."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        self._trunk = self.language_model.get_decoder()

    @property
    def context(self) -> int | None:
        """Return how many tokens of prompt and completion together it can read; None where there is no limit."""
        return longest_context(self.language_model.config)

    def _read(self, prompts: Sequence[Prompt], samples: int, room: int) -> Continuation:
        """Read the prompts in groups, each padded on the left to its own longest, and join what was read."""
        caches: list[DynamicCache] = []
        hidden: list[Tensor] = []
        for start in range(0, len(prompts), READ_AT_ONCE):
            group = [prompt.token_ids for prompt in prompts[start : start + READ_AT_ONCE]]
            ids, attended = self.padded(group, left=True)
            caches.append(DynamicCache())
            hidden.append(_last_hidden(self._trunk, ids, attended, caches[-1]))
        _, attended = self.padded([prompt.token_ids for prompt in prompts], left=True)
        return _Continuation(
            self._trunk,
            torch.cat(hidden).repeat_interleave(samples, dim=0),
            attended.repeat_interleave(samples, dim=0),
            join(caches, samples, room),
        )

    def _hidden_before(self, completions: Sequence[Completion], ids: Tensor, mask: Tensor) -> Tensor:
        """Read prompt + completion once, padded on the right: the causal mask alone keeps padding out of sight."""
        whole, _ = self.padded([item.prompt.token_ids + item.token_ids for item in completions], left=False)
        hidden = self._trunk(input_ids=whole, use_cache=False).last_hidden_state
        prompt_lengths = torch.tensor([len(item.prompt.token_ids) for item in completions], device=self.device)
        rows, positions = mask.nonzero(as_tuple=True)
        # The hidden state before token t of the completion stands at index prompt length - 1 + t.
        before: Tensor = hidden[rows, positions + prompt_lengths[rows] - 1]
        return before

    def _plain_logits(self, token: Tensor) -> Tensor:
        logits: Tensor = self.language_model(input_ids=token).logits[:, -1]
        return logits


class _Continuation:
    def __init__(self, trunk: Any, hidden: Tensor, attended: Tensor, cache: Cache) -> None:
        self.hidden = hidden
        self._trunk, self._attended, self._cache = trunk, attended, cache

    def append(self, tokens: Tensor) -> None:
        self._attended = torch.cat([self._attended, self._attended.new_ones(len(tokens), 1)], dim=1)
        self.hidden = _last_hidden(self._trunk, tokens[:, None], self._attended, self._cache)

    def keep(self, live: Tensor) -> None:
        self._attended = self._attended[live]
        self._cache.batch_select_indices(live.nonzero().squeeze(1))


def longest_context(config: Any) -> int | None:
    """Return how many tokens of prompt and completion together a model of this configuration can read; None: any."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None


def _last_hidden(trunk: Any, ids: Tensor, attended: Tensor, cache: Cache) -> Tensor:
    """Read ids [B, N] after what the cache holds and return the hidden state [B, H] after the last of them."""
    positions = (attended.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = trunk(
        input_ids=ids, attention_mask=attended, position_ids=positions, past_key_values=cache, use_cache=True
    )
    last: Tensor = output.last_hidden_state[:, -1]
    return last
