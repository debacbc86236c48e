"""A decoder-only policy: one trunk, its language-model head, and a value head on the same hidden states."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedTokenizerBase

from pipeline.masking import completion_mask
from pipeline.models import POLICY_ADAPTER, REFERENCE_ADAPTER, acting_as_base, acting_as_reference, adapters_of
from pipeline.policy.sampling import Samples, draw, token_statistics
from pipeline.policy.types import Analysis, Completion, Decoding, Prompt
from pipeline.policy.value_head import ValueHead

# Finished completions leave the batch once this share of its rows is done; each leaving copies the whole cache.
_LEAVE_AT = 0.25
# Completions analyzed at once when no gradient is kept.
_ANALYZED_AT_ONCE = 32


class CausalPolicy:
    """Sample from and analyze with a causal language model, with or without PEFT adapters."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        language_model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._trunk = language_model.get_decoder()
        self._head = language_model.get_output_embeddings()
        self._stops = stop_tokens(language_model, tokenizer)
        self.device = self._head.weight.device
        self.value_head = ValueHead(language_model.config.hidden_size).to(self.device)

    @property
    def has_adapter(self) -> bool:
        """Tell whether the policy differs from the base."""
        return POLICY_ADAPTER in adapters_of(self.model)

    @property
    def reference_has_adapter(self) -> bool:
        """Tell whether the reference differs from the base."""
        return REFERENCE_ADAPTER in adapters_of(self.model)

    def reference(self) -> AbstractContextManager[None]:
        """Let the same weights act as the reference inside the block."""
        return acting_as_reference(self.model)

    def base(self) -> AbstractContextManager[None]:
        """Let the same weights act as the untouched base inside the block."""
        return acting_as_base(self.model)

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters to optimise: the policy adapter's and the value head's."""
        return {
            "adapter": [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            "value_head": list(self.value_head.parameters()),
        }

    @torch.no_grad()
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
        """Sample `samples` completions a prompt, all of a prompt together, ordered as the prompts are.

        Prompts are grouped by length and read once for all their samples. `progress` names a progress bar.
        """
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].token_ids))
        size = max(1, batch_size // samples)
        completions: dict[int, list[Completion]] = {}
        with tqdm(total=len(prompts) * samples, desc=progress, unit="completion", disable=not progress) as bar:
            for start in range(0, len(order), size):
                indices = order[start : start + size]
                batch = self._complete_batch([prompts[index] for index in indices], decoding, samples, seed)
                for place, index in enumerate(indices):
                    completions[index] = batch[place * samples : (place + 1) * samples]
                bar.update(len(batch))
        return [completion for index in range(len(prompts)) for completion in completions[index]]

    def analyze(self, completions: Sequence[Completion]) -> Analysis:
        """Return log-probabilities, entropies and values of the completions' tokens, in the order given.

        Without gradient the completions are taken in small groups of like length, so that padding costs nothing.
        """
        if torch.is_grad_enabled():
            return self._analyze_batch(completions)
        lengths = [len(completion.prompt.token_ids) + len(completion.token_ids) for completion in completions]
        order = sorted(range(len(completions)), key=lengths.__getitem__)
        width = max(len(completion.token_ids) for completion in completions)
        whole = [torch.zeros(len(completions), width, device=self.device) for _ in range(4)]
        for start in range(0, len(order), _ANALYZED_AT_ONCE):
            indices = order[start : start + _ANALYZED_AT_ONCE]
            part = self._analyze_batch([completions[index] for index in indices])
            for target, values in zip(whole, part, strict=True):
                target[indices, : values.shape[1]] = values.float()
        return Analysis(whole[0], whole[1], whole[2], whole[3].bool())

    def _analyze_batch(self, completions: Sequence[Completion]) -> Analysis:
        """Read prompt + completion once, padded on the right: the causal mask alone keeps padding out of sight."""
        prompt_lengths = torch.tensor([len(completion.prompt.token_ids) for completion in completions])
        lengths = torch.tensor([len(completion.token_ids) for completion in completions])
        sequences = [completion.prompt.token_ids + completion.token_ids for completion in completions]
        ids, _ = self._padded(sequences, left=False)
        hidden = self._trunk(input_ids=ids, use_cache=False).last_hidden_state
        mask = completion_mask(lengths, int(lengths.max())).to(self.device)
        rows, positions = mask.nonzero(as_tuple=True)
        # The hidden state before token t of the completion stands at index prompt length - 1 + t.
        places = positions + prompt_lengths.to(self.device)[rows] - 1
        before = hidden[rows, places]
        logprobs, entropy = token_statistics(self._head(before), ids[rows, places + 1])
        values = self.value_head(before)
        blank = torch.zeros(mask.shape, device=self.device)
        spread = [blank.masked_scatter(mask, item) for item in (logprobs, entropy, values)]
        return Analysis(spread[0], spread[1], spread[2], mask)

    def _complete_batch(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: int, seed: int
    ) -> list[Completion]:
        drawn = Samples(prompts, samples, seed, decoding.max_new_tokens, self._stops, self.device)
        for position, (logits, rows) in enumerate(self._decode(prompts, samples, drawn)):
            tokens, logprobs = draw(logits, drawn.uniforms[rows, position], decoding.temperature, decoding.top_p)
            drawn.record(rows, position, tokens, logprobs)
        return [
            Completion(
                prompt, sample, ids, finished, logprob, str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
            )
            for prompt, sample, ids, finished, logprob in drawn.rows()
        ]

    def _decode(self, prompts: Sequence[Prompt], samples: int, drawn: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the next token's logits [B, V] and the rows [B] they belong to until every row is finished."""
        ids, attended = self._padded([prompt.token_ids for prompt in prompts], left=True)
        cache = DynamicCache()
        hidden = self._step(ids, attended, cache)
        cache.batch_repeat_interleave(samples)
        hidden, attended = hidden.repeat_interleave(samples, 0), attended.repeat_interleave(samples, 0)
        rows = torch.arange(len(prompts) * samples, device=self.device)
        for position in range(drawn.width):
            yield self._head(hidden), rows
            live = ~drawn.finished[rows]
            if position + 1 == drawn.width or not live.any():
                return
            if live.float().mean() <= 1 - _LEAVE_AT:
                rows, attended = rows[live], attended[live]
                cache.batch_select_indices(live.nonzero().squeeze(1))
            attended = torch.cat([attended, attended.new_ones(len(rows), 1)], dim=1)
            hidden = self._step(drawn.tokens[rows, position][:, None], attended, cache)

    def _step(self, ids: Tensor, attended: Tensor, cache: DynamicCache) -> Tensor:
        positions = (attended.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._trunk(
            input_ids=ids, attention_mask=attended, position_ids=positions, past_key_values=cache, use_cache=True
        )
        last: Tensor = output.last_hidden_state[:, -1]
        return last

    def _padded(self, sequences: Sequence[tuple[int, ...]], left: bool) -> tuple[Tensor, Tensor]:
        """Return ids [B, L] and the attention mask [B, L] (1 on tokens), padded on one side."""
        width = max(map(len, sequences))
        ids = torch.full((len(sequences), width), int(self.tokenizer.pad_token_id))
        attended = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
            ids[row, place] = torch.tensor(sequence)
            attended[row, place] = 1
        return ids.to(self.device), attended.to(self.device)


def stop_tokens(language_model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token id that ends a completion, by the generation config and by the tokenizer."""
    configured = language_model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return sorted({int(token) for token in [*several, tokenizer.eos_token_id] if token is not None})
