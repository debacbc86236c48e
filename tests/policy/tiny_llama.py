"""A tiny random Llama, laid out on disk as the download and reference stages do, and pairs of its completions."""

from typing import Any

import torch
from torch import Tensor

from pipeline.io import paths
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.policy.types import Completion, Prompt
from pipeline.preferences.pairs import Pair
from tests.policy.tiny_model import (
    END,
    HARSH,
    HIDDEN,
    LONGEST_PROMPT,
    NAME,
    NOT_SAMPLED,
    ROOT,
    SEED,
    START,
    UNKNOWN,
    VOCABULARY,
    WORDS,
    TinyModel,
    completions,
    perturb,
    prompts,
    save_base,
    section,
    tokenizer,
)

# Tests of the methods, which need one architecture only, find all they need here.
__all__ = ["END", "HARSH", "LLAMA", "LONGEST_PROMPT", "NAME", "ROOT", "SEED", "START", "UNKNOWN", "VOCABULARY", "WORDS"]
__all__ += [
    "checkpoints",
    "completions",
    "completions_of",
    "load",
    "lora",
    "new_policy",
    "pairs",
    "perturb",
    "plain",
    "prompts",
]
__all__ += ["section", "text", "tokenizer", "write_base", "write_task_reference"]


def checkpoints(method: str = "sft", every: int = 0, **parts: str) -> Checkpoints:
    """Return the checkpoints of a training of `exp`, by default none; `parts` are what its result depends on."""
    return Checkpoints(paths.checkpoints(NAME, SEED, method), parts, every)


def write_base(end_bias: float = 0.0, stop_tokens: int | list[int] = END) -> None:
    """Write the base model of the experiment `exp`; `end_bias` adds to END's logit, everywhere about the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.25,  # logits that differ from context to context, as a trained model's do
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # One hidden feature is about the same everywhere and only END's logit listens to it.
        model.model.embed_tokens.weight[:, 0] = 4.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[END, 0] = end_bias
    save_base(model, stop_tokens)


@torch.no_grad()
def plain(model: Any, completion: Completion) -> tuple[Tensor, Tensor]:
    """Return logits and hidden states before every token: prompt and completion are one sequence."""
    ids = torch.tensor([completion.prompt.token_ids + completion.token_ids])
    output = model(input_ids=ids, output_hidden_states=True)
    before = slice(len(completion.prompt.token_ids) - 1, -1)
    return output.logits[0, before], output.hidden_states[-1][0, before]


LLAMA = TinyModel(
    architecture="causal",
    target_modules=tuple(section("lora").target_modules),
    ending=1.3,
    write_base=write_base,
    plain=plain,
)
load, new_policy, lora = LLAMA.load, LLAMA.new_policy, LLAMA.lora
write_task_reference = LLAMA.write_task_reference


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return pairs of random completions; chosen ones end with END in every other pair, rejected ones in the rest."""
    made = []
    others = completions(count + 1, seed + 50)[1:]
    for chosen, rejected in zip(completions(count, seed), others, strict=True):
        prompt = chosen.prompt
        texts = (text(chosen.token_ids), list(chosen.token_ids), 0.0, text(rejected.token_ids))
        made.append(Pair(prompt.id, prompt.text, list(prompt.token_ids), *texts, list(rejected.token_ids), 1.0))
    return made


def text(token_ids: tuple[int, ...]) -> str:
    """Return the words of a completion."""
    return " ".join(VOCABULARY[token] for token in token_ids if token != END)


def completions_of(made: list[Pair], side: str) -> list[Completion]:
    """Return the chosen or the rejected completions of pairs, for `analyze`."""
    return [
        Completion(
            Prompt(pair.prompt_id, pair.prompt, tuple(pair.prompt_ids)),
            0,
            tuple(getattr(pair, f"{side}_ids")),
            getattr(pair, f"{side}_ids")[-1] == END,
            getattr(pair, side),
            NOT_SAMPLED,
        )
        for pair in made
    ]
