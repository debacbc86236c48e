"""Sampling from and analyzing with a language model, whatever its architecture."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from pipeline.io.errors import NotFiniteError, UserError
from pipeline.policy.adapters import (
    POLICY_ADAPTER,
    REFERENCE_ADAPTER,
    acting_as_base,
    acting_as_reference,
    adapters_of,
    merged,
)
from pipeline.policy.masking import completion_mask
from pipeline.policy.quantization import is_quantized
from pipeline.policy.recomputation import layers_of, recomputing
from pipeline.policy.sampling import Samples, draw, token_statistics
from pipeline.policy.types import Analysis, Completion, Decoding, Prompt, Role


class ValueHead(nn.Module):
    """Map hidden states [..., H] to values [...], float32, starting at zero. PPO moves the bias to its returns."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return one value a position."""
        values: Tensor = self.linear(hidden.float()).squeeze(-1)
        return values


# Finished completions leave the batch once this share of its rows is done; each leaving copies the whole cache.
_LEAVE_AT = 0.25
# Completions analyzed at once when no gradient is kept.
_ANALYZED_AT_ONCE = 32
# Prompts read at once, so that short ones are not padded to the longest of the batch.
READ_AT_ONCE = 16


class Continuation(Protocol):
    """Prompts that were read, and what was drawn after them so far: B rows."""

    hidden: Tensor  # [B, H], what the next token is drawn from

    def append(self, tokens: Tensor) -> None:
        """Read one more token [B] of every row."""
        ...

    def keep(self, live: Tensor) -> None:
        """Keep the rows where `live` [B] is True, in their order."""
        ...


class LanguageModelPolicy(ABC):
    """Sample from and analyze with a language model, with or without PEFT adapters."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.language_model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._head = self.language_model.get_output_embeddings()
        self._recomputed = layers_of(self.language_model)
        self._stops = stop_tokens(self.language_model, tokenizer)
        self.value_head = ValueHead(self.language_model.config.hidden_size).to(self.device)

    @abstractmethod
    def _read(self, prompts: Sequence[Prompt], samples: int, room: int) -> Continuation:
        """Read the prompts, `samples` rows for each, with room for that many more tokens."""

    @abstractmethod
    def _hidden_before(self, completions: Sequence[Completion], ids: Tensor, mask: Tensor) -> Tensor:
        """Return the hidden state before every token that is True in `mask` [B, T], row by row, [N, H].

        ids: [B, T], the completions' tokens, padded on the right.
        """

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(hidden)
        return logits

    @abstractmethod
    def _plain_logits(self, token: Tensor) -> Tensor:
        """Return the logits [1, V] after the prompt `token` [1, 1] as the language model itself computes them."""

    @torch.no_grad()
    def check_model(self) -> None:
        """Raise UserError for a model that does more to its logits than its output layer, such as soft-capping.

        Everything here computes logits from hidden states, at the places where they are needed. Dropout is off
        afterwards.
        """
        self.model.eval()
        token = torch.tensor([[self._stops[0]]], device=self.device)
        with acting_as_base(self.model):
            hidden = self._read([Prompt("", "", (self._stops[0],))], samples=1, room=0).hidden
            ours, theirs = self._logits(hidden), self._plain_logits(token)
        rounding = (1e-4 if theirs.dtype == torch.float32 else 0.02) * theirs.abs().max().item()
        if not math.isfinite(rounding):
            raise NotFiniteError("model.source: the base's logits are not finite; choose another model")
        if not torch.allclose(ours, theirs, rtol=0, atol=rounding, equal_nan=True):
            raise UserError(
                f"model.source: {type(self.language_model).__name__} changes its logits after the output layer "
                "(soft-capping, scaling or a bias), which is not supported; choose another model"
            )

    @property
    def device(self) -> torch.device:
        """Return where its tensors are."""
        device: torch.device = self._head.weight.device
        return device

    @property
    def context(self) -> int | None:
        """Return how many tokens of prompt and completion together it can read; None where there is no limit."""
        return None

    @property
    def is_exact(self) -> bool:
        """Tell whether a token's log-probability is the same, up to float32 rounding, however the token is read.

        In bfloat16 a token read alone and the same token read among others differ by percents of a probability; and
        weights in 4 bits are multiplied by other kernels with a gradient than without.
        """
        return self._head.weight.dtype == torch.float32 and not is_quantized(self.language_model)

    @property
    def adapters(self) -> frozenset[str]:
        """Return which of `policy` and `reference` differ from the base by an adapter."""
        names = {POLICY_ADAPTER: "policy", REFERENCE_ADAPTER: "reference"}
        return frozenset(names[name] for name in adapters_of(self.model))

    def acting_as(self, role: Role) -> AbstractContextManager[None]:
        """Let the same weights act as the reference, or as the untouched base, inside the block."""
        return acting_as_reference(self.model) if role == "reference" else acting_as_base(self.model)

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

        Prompts are grouped by length and read once for all their samples. `progress` names a progress bar. Raises
        UserError, before anything is sampled, for a prompt that leaves no room for its completions.
        """
        self._check_room(prompts, decoding.max_new_tokens)
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].token_ids))
        size = max(1, batch_size // samples)
        completions: dict[int, list[Completion]] = {}
        with (
            merged(self.model),
            tqdm(total=len(prompts) * samples, desc=progress, unit="completion", disable=not progress) as bar,
        ):
            for start in range(0, len(order), size):
                indices = order[start : start + size]
                batch = self._complete_batch([prompts[index] for index in indices], decoding, samples, seed)
                for place, index in enumerate(indices):
                    completions[index] = batch[place * samples : (place + 1) * samples]
                bar.update(len(batch))
        return [completion for index in range(len(prompts)) for completion in completions[index]]

    def analyze(self, completions: Sequence[Completion], *, recall: bool = False) -> Analysis:
        """Return log-probabilities, entropies and values of the completions' tokens, in the order given.

        Without gradient the completions are taken in small groups, those of one prompt and of like length together.
        `recall` takes what was seen while sampling, where `is_exact`.
        """
        if recall and self.is_exact:
            return self._recall(completions)
        if torch.is_grad_enabled():
            with recomputing(self._recomputed) if not self.model.training else nullcontext():
                return self._analyze_batch(completions)
        order = sorted(range(len(completions)), key=lambda index: completions[index].reading_order)
        whole = self._blank(completions)
        for start in range(0, len(order), _ANALYZED_AT_ONCE):
            indices = order[start : start + _ANALYZED_AT_ONCE]
            part = self._analyze_batch([completions[index] for index in indices])
            width = part.mask.shape[1]
            for target, values in zip(whole[:3], part[:3], strict=True):
                target[indices, :width] = values
        return whole

    def _recall(self, completions: Sequence[Completion]) -> Analysis:
        whole = self._blank(completions)
        for row, completion in enumerate(completions):
            for target, seen in zip(whole[:3], completion.trace, strict=True):
                target[row, : len(seen)] = torch.tensor(seen)
        return whole

    def _check_room(self, prompts: Sequence[Prompt], new: int) -> None:
        for prompt in prompts:
            if self.context is not None and len(prompt.token_ids) + new > self.context:
                raise UserError(
                    f"prompt {prompt.id}: its {len(prompt.token_ids)} tokens and {new} new ones are more than the "
                    f"{self.context} tokens that the model can read; lower max_new_tokens or model.max_prompt_tokens"
                )

    def _blank(self, completions: Sequence[Completion]) -> Analysis:
        lengths = torch.tensor([len(completion.token_ids) for completion in completions], device=self.device)
        mask = completion_mask(lengths, int(lengths.max()))
        logprobs, entropy, values = (torch.zeros(mask.shape, device=self.device) for _ in range(3))
        return Analysis(logprobs, entropy, values, mask)

    def _analyze_batch(self, completions: Sequence[Completion]) -> Analysis:
        blank = self._blank(completions)
        ids, _ = self.padded([completion.token_ids for completion in completions], left=False)
        before = self._hidden_before(completions, ids, blank.mask)
        logprobs, entropy = token_statistics(self._logits(before), ids[blank.mask])
        return Analysis(
            blank.logprobs.masked_scatter(blank.mask, logprobs),
            blank.entropy.masked_scatter(blank.mask, entropy),
            blank.values.masked_scatter(blank.mask, self.value_head(before)),
            blank.mask,
        )

    def _complete_batch(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: int, seed: int
    ) -> list[Completion]:
        drawn = Samples(prompts, samples, seed, decoding.max_new_tokens, self._stops, self.device)
        for position, (hidden, rows) in enumerate(self._decode(prompts, samples, drawn)):
            noise = drawn.uniforms[rows, position]
            tokens = draw(self._logits(hidden), noise, decoding.temperature, decoding.top_p)
            drawn.record(rows, position, tokens, self.value_head(hidden))
        return [
            Completion(prompt, sample, ids, finished, self._text(ids), trace)
            for prompt, sample, ids, finished, trace in drawn.rows()
        ]

    def _decode(self, prompts: Sequence[Prompt], samples: int, drawn: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the hidden states [B, H] before the next token and the rows [B] they belong to, until all are done."""
        continuation = self._read(prompts, samples, drawn.width - 1)
        rows = torch.arange(len(prompts) * samples, device=self.device)
        for position in range(drawn.width):
            yield continuation.hidden, rows
            live = ~drawn.finished[rows]
            if position + 1 == drawn.width or not live.any():
                return
            if live.float().mean() <= 1 - _LEAVE_AT:
                rows = rows[live]
                continuation.keep(live)
            continuation.append(drawn.tokens[rows, position])

    def _text(self, ids: tuple[int, ...]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def padded(self, sequences: Sequence[tuple[int, ...]], left: bool) -> tuple[Tensor, Tensor]:
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
