"""Tokenizers with chat templates in the shapes of true ones, and a chat experiment whose stages run in this process."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.data.schema import PromptRow, to_json
from pipeline.io import paths
from pipeline.io.records import write_jsonl
from pipeline.policy.loading import write_reference_manifest
from tests.smoke import workspace
from tests.smoke.checkpoint import write_checkpoint

EXPERIMENT = "chat"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# As Zephyr's and TinyLlama's, with BOS before all, which their tokenizer writes by itself too where it is not told.
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
REFUSAL = {"scorer": {"kind": "refusal_phrases", "words": 30}, "labelled": None}
PREFERENCES = {
    "kind": "dataset",
    "polarity": "as_labelled",
    "polarity_override": None,
    "lint": {"margin": 0.3, "min_decided": 0.05, "max_chosen_worse": 0.5},
    "max_completion_tokens": 100,
}


def llama_tokenizer() -> Any:
    """Return a tokenizer that, as Llama's, writes BOS and puts a blank before a text: `<s> ▁ h i`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = ["▁", "\n", *(chr(code) for code in range(33, 127))]
    names = ["<unk>", "<s>", "</s>", *letters]
    found = Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, [], unk_token="<unk>"))
    found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    found.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    found.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=found, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = LLAMA_TEMPLATE
    return made


def write_parameters(**changed: Any) -> None:
    """Write the parameters of the experiment `chat`: those of the default one for tiny parts, with these sections."""
    parameters = yaml.safe_load((workspace.ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    workspace.change(parameters, workspace.SECTIONS)
    sources = {name: {"uri": f"file:{name}.jsonl", "sha256": "0" * 64} for name in ("prompts", "questions")}
    parameters["data"] |= {"dataset": "jsonl", "sources": sources, "eval_fraction": 0.25, "dev_fraction": 0.2}
    parameters["model"] |= {"prompt_format": "chat_template", "max_prompt_tokens": 100}
    for section, values in changed.items():
        if section in ("preferences", "refusal"):  # other kinds, with other keys
            parameters[section] = values
        else:
            workspace.change(parameters, {section: values})
    file = paths.experiment_file(EXPERIMENT)
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(parameters), encoding="utf-8")
    paths.roster_file().write_text(yaml.safe_dump(workspace.roster([EXPERIMENT]), sort_keys=False))


def write_base(template: str | None = TEMPLATE) -> Path:
    """Write the base, a tiny Llama with one token a byte, as `download` leaves it, and the reference that it is."""
    folder = paths.base_model(EXPERIMENT)
    write_checkpoint(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_reference_manifest(EXPERIMENT, 0, "base")
    return folder


def write_split(split: str, rows: list[PromptRow]) -> None:
    """Write formatted rows."""
    write_jsonl(paths.formatted(EXPERIMENT, split), map(to_json, rows))
