"""What the tiny models of both architectures share: words, prompts, completions, and how policies are made of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from pipeline.config.declarations import rooms
from pipeline.config.schema import experiment_file
from pipeline.io import paths
from pipeline.policy import loading
from pipeline.policy.making import make_policy
from pipeline.policy.types import Completion, Policy, Prompt, Trace

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
HIDDEN = 32
NOT_SAMPLED = Trace((), (), ())


@dataclass(frozen=True)
class TinyModel:
    """One architecture: how its base is written to disk, and how one completion is read with nothing of ours.

    `write_base(end_bias, stop_tokens)` lays the base out as the download and reference stages do; an `end_bias` of
    `ending` makes END the likeliest token. `plain(model, completion)` returns the logits [T, V] and the hidden
    states [T, H] before every token, from one forward pass of the whole model.
    """

    architecture: str
    target_modules: tuple[str, ...]
    ending: float
    write_base: Callable[..., None]
    plain: Callable[[Any, Completion], tuple[Tensor, Tensor]]

    def model(self) -> Any:
        """Return the model section of an experiment of this architecture."""
        return section("model", architecture=self.architecture)

    def lora(self, **changes: Any) -> Any:
        """Return the LoRA section: rank 4 on this architecture's layers."""
        return section("lora", **({"r": 4, "alpha": 8, "target_modules": list(self.target_modules)} | changes))

    def write_task_reference(self) -> None:
        """Make the reference a LoRA adapter that changes the base (B is not 0), as an experiment with a task has it."""
        from peft import get_peft_model

        model = get_peft_model(loading.load_base(NAME, self.model()), loading.lora_config(self.model(), self.lora()))
        torch.manual_seed(1)
        perturb(model, 0.3)
        loading.save_adapter(model, NAME, SEED, "reference")
        loading.write_reference_manifest(NAME, SEED, "adapter")

    def load(self, policy: str) -> Any:
        """Load a saved policy for sampling."""
        return self.policy_of(loading.load_policy_model(NAME, SEED, self.model(), policy))

    def new_policy(self, **lora: Any) -> Any:
        """Return a policy with a fresh trainable adapter."""
        return self.policy_of(loading.new_policy_model(NAME, SEED, self.model(), self.lora(**lora)))

    def policy_of(self, model: Any) -> Policy:
        """Wrap a loaded model."""
        return make_policy(self.architecture, model, loading.load_tokenizer(NAME))


def save_base(model: Any, stop_tokens: int | list[int]) -> None:
    """Write a model as the base of the experiment `exp`, which is its own reference."""
    model.generation_config.eos_token_id = stop_tokens
    model.save_pretrained(paths.base_model(NAME))
    tokenizer().save_pretrained(paths.base_model(NAME))
    loading.write_reference_manifest(NAME, SEED, "base")


def tokenizer() -> Any:
    """Return a tokenizer of whole words, with END as padding and START as a special token that does not stop."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "<unknown>", "bos_token": "<start>", "eos_token": "<end>", "pad_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def section(name: str, /, **changes: Any) -> Any:
    """Return one checked section of the default experiment, or of one of its methods, with these values changed."""
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    place = file["methods"] if name in file["methods"] else file
    place[name] |= changes
    whole = experiment_file(rooms()).model_validate(file)
    return whole.methods[name] if name in whole.methods else getattr(whole, name)


def perturb(model: Any, scale: float = 0.1) -> None:
    """Change every trainable weight of the model by noise, as a training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn_like(parameter))


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
        made.append(Completion(prompt, 0, tuple(ids), bool(index % 2), "", NOT_SAMPLED))
    return made
