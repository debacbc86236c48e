"""A decoder-only policy: prompt and completion are one sequence."""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedTokenizerBase

from pipeline.io.errors import shortened
from pipeline.policy.adapters import acting_as_base
from pipeline.policy.cache import join
from pipeline.policy.language_model import READ_AT_ONCE, Continuation, LanguageModelPolicy
from pipeline.policy.packing import Packed, additive, pack, saves_reading
from pipeline.policy.types import Completion, Prompt

logger = logging.getLogger(__name__)


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
        """Read every different prompt once, each completion after its own; where the model cannot, every one whole."""
        if self._takes_masks and saves_reading(completions):
            packed = pack(completions, self.device)
            if self.context is None or packed.ids.shape[1] <= self.context:  # some models have tables of that size
                return self._read_packed(packed)
        return self._read_whole(completions, mask)

    def _read_packed(self, packed: Packed) -> Tensor:
        output = self._trunk(
            input_ids=packed.ids,
            position_ids=packed.positions,
            attention_mask=additive(packed.visible, self._head.weight.dtype),
            use_cache=False,
        )
        # Indexing with [] would add up the gradients of a prompt's last token in an order of its own in every run.
        before: Tensor = output.last_hidden_state.flatten(0, 1).index_select(0, packed.before)
        return before

    def _read_whole(self, completions: Sequence[Completion], mask: Tensor) -> Tensor:
        """Read prompt + completion, padded on the right: the causal mask alone keeps padding out of sight."""
        whole, _ = self.padded([item.prompt.token_ids + item.token_ids for item in completions], left=False)
        hidden = self._trunk(input_ids=whole, use_cache=False).last_hidden_state
        prompt_lengths = torch.tensor([len(item.prompt.token_ids) for item in completions], device=self.device)
        rows, positions = mask.nonzero(as_tuple=True)
        # The hidden state before token t of the completion stands at index prompt length - 1 + t.
        before: Tensor = hidden[rows, positions + prompt_lengths[rows] - 1]
        return before

    def check_model(self) -> None:
        """Check as for every model, and find out how this one reads while dropout cannot blur it."""
        super().check_model()
        self._takes_masks  # noqa: B018

    @cached_property
    def _takes_masks(self) -> bool:
        """Whether the model's attention does what a mask of ours says, tried on two completions of one prompt."""
        reason = _own_mask(self.language_model.config) or self._try_mask()
        if reason:
            logger.warning("prompts are read once for every completion of theirs, not once for all: %s", reason)
        return not reason

    def _try_mask(self) -> str | None:
        first, second, third = (token % self._head.weight.shape[0] for token in (self._stops[0], 1, 2))
        prompt = Prompt("", "", (first, second, third))
        completions = [Completion.given(prompt, ids) for ids in ((third, second, first), (second, second, third))]
        mask = torch.ones(2, 3, dtype=torch.bool, device=self.device)
        with torch.no_grad(), acting_as_base(self.model):
            whole = self._read_whole(completions, mask)
            try:
                packed = self._read_packed(pack(completions, self.device))
            except Exception as error:  # whatever the model's own code raises
                return f"the model takes no such mask ({shortened(str(error))})"
        rounding = (1e-4 if whole.dtype == torch.float32 else 0.05) * whole.abs().max().item()
        same = torch.allclose(packed, whole, rtol=0, atol=rounding, equal_nan=True)
        return None if same else "the model's attention has a mask or positions of its own"

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


def _own_mask(config: Any) -> str | None:
    """Return why a model of this configuration does not take a mask that is given, None where nothing says so."""
    config = config.get_text_config()
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"its attention is {config._attn_implementation}"
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    slides = window is not None if kinds is None else set(kinds) != {"full_attention"}
    local = "local" in getattr(config, "attention_layers", ())  # GPT-Neo
    return "its layers do not see the whole text" if slides or local else None


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
