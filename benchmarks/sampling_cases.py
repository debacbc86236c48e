"""The policies whose sampling is measured, each with the two ways to sample from it."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.distribution import Drawn
from benchmarks.ppo_job import EXPERIMENT, REFERENCE_SEED, SECTIONS
from pipeline.config.loader import load
from pipeline.data.schema import read_prompts
from pipeline.io import paths
from pipeline.policy import loading
from pipeline.policy.language_model import stop_tokens
from pipeline.policy.making import make_policy
from pipeline.policy.prompts import tokenize_prompts
from pipeline.policy.types import Decoding, Prompt

RANDOM_B = 0.02  # standard deviation of the stand-in for a trained LoRA
AT_ONCE = 512  # first tokens drawn at once: their logits over the whole vocabulary are held


class Case:
    """One policy and some prompts, completed at temperature 1 without truncation, all in one batch."""

    def __init__(self, name: str, model: Any, tokenizer: Any, prompts: Sequence[Prompt], new_tokens: int) -> None:
        self.name, self.model, self.prompts, self.new_tokens = name, model, list(prompts), new_tokens
        self._policy = make_policy("causal", model, tokenizer)
        self._pad = int(tokenizer.pad_token_id or 0)
        self._stops = stop_tokens(model, tokenizer)

    def ours(self, seed: int) -> list[Drawn]:
        """Complete the prompts with our sampler."""
        completions = self._policy.complete(
            self.prompts, Decoding(self.new_tokens), samples=1, seed=seed, batch_size=len(self.prompts)
        )
        return [Drawn(item.prompt.id, item.prompt.token_ids, item.token_ids) for item in completions]

    def generate(self, seed: int) -> list[Drawn]:
        """Complete the prompts with `model.generate`, padded on the left."""
        torch.manual_seed(seed)
        width = max(len(prompt.token_ids) for prompt in self.prompts)
        gaps = [width - len(prompt.token_ids) for prompt in self.prompts]
        ids = [[self._pad] * gap + list(item.token_ids) for gap, item in zip(gaps, self.prompts, strict=True)]
        attended = [[0] * gap + [1] * (width - gap) for gap in gaps]
        device = next(self.model.parameters()).device
        rows = self.model.generate(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(attended, device=device),
            generation_config=self._generation_config(),
        )[:, width:].tolist()
        return [
            Drawn(prompt.id, prompt.token_ids, until_stop(row, self._stops))
            for prompt, row in zip(self.prompts, rows, strict=True)
        ]

    def first_tokens(self, prompt: Prompt, count: int, seed: int) -> list[int]:
        """Draw `count` first tokens after one prompt with our sampler."""
        tokens: list[int] = []
        for block in range(0, count, AT_ONCE):
            samples = min(AT_ONCE, count - block)
            drawn = self._policy.complete([prompt], Decoding(1), samples=samples, seed=seed + block, batch_size=samples)
            tokens += [item.token_ids[0] for item in drawn]
        return tokens

    def _generation_config(self) -> Any:
        from transformers import GenerationConfig

        return GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.new_tokens,
            eos_token_id=self._stops,
            pad_token_id=self._pad,
        )


def until_stop(tokens: Sequence[int], stops: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens up to and with the first stop; `generate` pads what comes after."""
    ends = [index for index, token in enumerate(tokens) if token in stops]
    return tuple(tokens[: ends[0] + 1] if ends else tokens)


def cases(batch: int, new_tokens: int) -> Iterator[Case]:
    """Yield the policy with an adapter, then the bare base, both on the same train prompts."""
    settings = load(EXPERIMENT, SECTIONS)
    section = settings.model.model_copy(update={"dtype": "float32"})
    file = paths.formatted(EXPERIMENT, "train")
    tokenizer = loading.load_tokenizer(EXPERIMENT)
    every = tokenize_prompts(read_prompts(file), tokenizer, section, file)
    prompts = random.Random(0).sample(every, batch)
    if (paths.adapter(EXPERIMENT, REFERENCE_SEED, "ppo") / "adapter_config.json").exists():
        model = loading.load_policy_model(EXPERIMENT, REFERENCE_SEED, section, "ppo")
        yield Case("trained adapter", model, tokenizer, prompts, new_tokens)
    else:
        model = random_adapter(loading.new_policy_model(EXPERIMENT, REFERENCE_SEED, section, settings.lora))
        yield Case("random adapter", model, tokenizer, prompts, new_tokens)
    yield Case("base", loading.load_base(EXPERIMENT, section), tokenizer, prompts, new_tokens)


def random_adapter(model: Any) -> Any:
    """Give a fresh adapter a B that does something, and freeze it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(RANDOM_B * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)
