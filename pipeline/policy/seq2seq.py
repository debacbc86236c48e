"""An encoder-decoder policy: the encoder reads the prompt, the decoder starts afresh and writes the completion."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedTokenizerBase

from pipeline.io.errors import UserError
from pipeline.policy.cache import join
from pipeline.policy.language_model import READ_AT_ONCE, Continuation, LanguageModelPolicy
from pipeline.policy.types import Completion, Prompt


class Seq2SeqPolicy(LanguageModelPolicy):
    """Sample from and analyze with an encoder-decoder model, with or without PEFT adapters.

    The value head reads the decoder's hidden state as it is, also where the model scales it for its output layer.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        self._encoder, self._decoder = self.language_model.get_encoder(), self.language_model.get_decoder()
        config = self.language_model.config
        if config.decoder_start_token_id is None:
            raise UserError(
                f"{config.name_or_path}/config.json: decoder_start_token_id is missing, so nothing says what the "
                "decoder starts from; choose another model.source"
            )
        self._start = int(config.decoder_start_token_id)
        # T5 whose embeddings are its output layer scales down what that reads (T5ForConditionalGeneration.forward).
        self._scale = config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0

    def _read(self, prompts: Sequence[Prompt], samples: int, room: int) -> Continuation:
        """Encode the prompts in groups, let the decoder read its start token, and join what was read."""
        parts: list[EncoderDecoderCache] = []
        hidden: list[Tensor] = []
        masks: list[Tensor] = []
        for start in range(0, len(prompts), READ_AT_ONCE):
            group = [prompt.token_ids for prompt in prompts[start : start + READ_AT_ONCE]]
            states, attended = self._encode(group)
            starts = torch.full((len(group), 1), self._start, device=self.device)
            parts.append(EncoderDecoderCache(DynamicCache(), DynamicCache()))
            hidden.append(_last_hidden(self._decoder, starts, states, attended, parts[-1]))
            masks.append(attended)
        own = join([part.self_attention_cache for part in parts], samples, room)
        cross = join([part.cross_attention_cache for part in parts], samples, room=0)
        width = max(mask.shape[1] for mask in masks)
        # As `join` pads: shorter groups on the left.
        attended = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
        return _Continuation(
            self._decoder,
            torch.cat(hidden).repeat_interleave(samples, dim=0),
            attended.repeat_interleave(samples, dim=0),
            EncoderDecoderCache(own, cross),
        )

    def _hidden_before(self, completions: Sequence[Completion], ids: Tensor, mask: Tensor) -> Tensor:
        """Read every different prompt once and, after the start token, each completion without its last token.

        Completions are padded on the right: the decoder's causal mask alone keeps padding out of sight.
        """
        prompts = list(dict.fromkeys(item.prompt.token_ids for item in completions))
        states, attended = self._encode(prompts)
        places = {prompt: place for place, prompt in enumerate(prompts)}
        rows = torch.tensor([places[item.prompt.token_ids] for item in completions], device=self.device)
        starts = ids.new_full((len(ids), 1), self._start)
        output = self._decoder(
            input_ids=torch.cat([starts, ids[:, :-1]], dim=1),
            encoder_hidden_states=states.index_select(0, rows),  # whose gradients add up in the same order every time
            encoder_attention_mask=attended[rows],
            use_cache=False,
        )
        before: Tensor = output.last_hidden_state[mask]
        return before

    def _logits(self, hidden: Tensor) -> Tensor:
        return super()._logits(hidden * self._scale)

    def _plain_logits(self, token: Tensor) -> Tensor:
        start = token.new_full((1, 1), self._start)
        logits: Tensor = self.language_model(input_ids=token, decoder_input_ids=start).logits[:, -1]
        return logits

    def _encode(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Return the encoder's states [B, P, H] and the attention mask [B, P], padded on the right."""
        ids, attended = self.padded(prompts, left=False)
        return self._encoder(input_ids=ids, attention_mask=attended).last_hidden_state, attended


class _Continuation:
    def __init__(self, decoder: Any, hidden: Tensor, attended: Tensor, cache: EncoderDecoderCache) -> None:
        self.hidden = hidden
        self._decoder, self._attended, self._cache = decoder, attended, cache

    def append(self, tokens: Tensor) -> None:
        # The cache holds the keys and values of the encoder's states: of the states only the number is asked for.
        states = self.hidden.new_zeros(()).expand(*self._attended.shape, 1)
        self.hidden = _last_hidden(self._decoder, tokens[:, None], states, self._attended, self._cache)

    def keep(self, live: Tensor) -> None:
        rows = live.nonzero().squeeze(1)
        self._attended = self._attended[rows]
        self._cache.self_attention_cache.batch_select_indices(rows)
        self._cache.cross_attention_cache.batch_select_indices(rows)


def _last_hidden(decoder: Any, ids: Tensor, states: Tensor, attended: Tensor, cache: EncoderDecoderCache) -> Tensor:
    """Read ids [B, N] after what the cache holds and return the hidden state [B, H] after the last of them."""
    output = decoder(
        input_ids=ids,
        encoder_hidden_states=states,
        encoder_attention_mask=attended,
        past_key_values=cache,
        use_cache=True,
    )
    last: Tensor = output.last_hidden_state[:, -1]
    return last
