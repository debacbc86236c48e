"""A tiny random Llama with a real tokenizer of words, laid out on disk as the download and reference stages do."""

from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline import models, paths
from pipeline.config.sections import ExperimentFile
from pipeline.pairs import Pair
from pipeline.policy import Completion, Policy, Prompt, make_policy

ROOT = Path(__file__).resolve().parents[2]
NAME, SEED = "exp", 0
UNKNOWN, START, END = 0, 1, 2  # END is the padding token too, as in SmolLM2
WORDS = """
the a man woman child dog cat bird horse farmer teacher sailor walks reads sits sings works sleeps runs waits quietly
slowly gladly often never home garden house river bridge mountain village road table window door book bread water apple
and but with from under behind near old young green quiet bright warm cold darn silly foolish rotten dunce
""".split()
HARSH = ["darn", "silly", "foolish", "rotten", "dunce"]
VOCABULARY = ["<unknown>", "<start>", "<end>", *WORDS]
LONGEST_PROMPT = 24


def write_base(end_bias: float = 0.0, stop_tokens: int | list[int] = END) -> None:
    """Write the base model of the experiment `exp`; `end_bias` adds to END's logit, everywhere about the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
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
    model.generation_config.eos_token_id = stop_tokens
    with torch.no_grad():
        # One hidden feature is about the same everywhere and only END's logit listens to it.
        model.model.embed_tokens.weight[:, 0] = 4.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[END, 0] = end_bias
    model.save_pretrained(paths.base_model(NAME))
    tokenizer().save_pretrained(paths.base_model(NAME))
    models.write_reference_manifest(NAME, SEED, "base")


def tokenizer() -> Any:
    """Return a tokenizer of whole words, with END as padding and START as a special token that does not stop."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "<unknown>", "bos_token": "<start>", "eos_token": "<end>", "pad_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def write_task_reference() -> None:
    """Make the reference a LoRA adapter that changes the base (B is not 0), as an experiment with a task has it."""
    from peft import get_peft_model

    model = get_peft_model(models.load_base(NAME, section("model")), models.lora_config(section("model"), lora()))
    torch.manual_seed(1)
    perturb(model, 0.3)
    models.save_adapter(model, NAME, SEED, "reference")
    models.write_reference_manifest(NAME, SEED, "adapter")


def perturb(model: Any, scale: float = 0.1) -> None:
    """Change every trainable weight of the model by noise, as a training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn_like(parameter))


def section(name: str, **changes: Any) -> Any:
    """Return one checked section of the default experiment with these values changed."""
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    model = ExperimentFile.model_fields[name].annotation
    assert model is not None
    return model.model_validate(file[name] | changes)


def lora() -> Any:
    """Return the LoRA section: rank 4 on the layers of the default experiment."""
    return section("lora", r=4, alpha=8)


def load(policy: str) -> Policy:
    """Load a saved policy for sampling."""
    model = models.load_policy_model(NAME, SEED, section("model"), policy)
    return make_policy("causal", model, models.load_tokenizer(NAME))


def new_policy() -> Any:
    """Return a policy with a fresh trainable adapter."""
    model = models.new_policy_model(NAME, SEED, section("model"), lora())
    return make_policy("causal", model, models.load_tokenizer(NAME))


def prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Return prompts of 1 to LONGEST_PROMPT words; ids do not follow their order."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        length = int(torch.randint(1, LONGEST_PROMPT + 1, (), generator=generator))
        ids = torch.randint(3, len(VOCABULARY), (length,), generator=generator).tolist()
        made.append(Prompt(f"p{index * 7 % 101:03d}", " ".join(VOCABULARY[token] for token in ids), tuple(ids)))
    return made


def completions(count: int, seed: int = 0) -> list[Completion]:
    """Return completions of 1 to 12 random words that no policy sampled; every other one ends with END."""
    generator = torch.Generator().manual_seed(seed + 1)
    made = []
    for index, prompt in enumerate(prompts(count, seed)):
        length = int(torch.randint(1, 13, (), generator=generator))
        ids = torch.randint(3, len(VOCABULARY), (length,), generator=generator).tolist()
        ids += [END] * (index % 2)
        made.append(Completion(prompt, 0, tuple(ids), bool(index % 2), 0.0, ""))
    return made


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
            0.0,
            getattr(pair, side),
        )
        for pair in made
    ]
