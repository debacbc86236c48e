"""A tiny random sentence encoder in the true layout on disk, labelled texts of few words, and parameters of both."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.io import paths

ROOT = Path(__file__).resolve().parents[2]
HARMLESS = (
    "the a man woman walks reads sits home garden house book table window river bread morning quietly slow".split()
)
TOXIC = "darn silly blasted foolish dunce nitwit rotten wretched".split()
DIMENSION = 64
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def write_encoder(folder: Path) -> None:
    """Write a BERT of one layer with random weights, its tokenizer, and the files of sentence-transformers."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", ",", *HARMLESS, *TOXIC]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=DIMENSION,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,  # embeddings that differ as much as a trained encoder's
    )
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight *= 0.1  # words matter more than places, as in a trained encoder
    model.save_pretrained(folder)
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def sentences(count: int, seed: int, toxic: bool = False) -> list[str]:
    """Return different sentences of 4 to 12 words; a toxic one has toxic words in all but every third place."""
    rng = np.random.default_rng(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        length = int(rng.integers(4, 13))
        words = [str(rng.choice(TOXIC if toxic and place % 3 else HARMLESS)) for place in range(length)]
        made[" ".join(words) + "."] = None
    return list(made)


def write_parameters(scorers: dict[str, Any], name: str = "exp", **sections: dict[str, Any]) -> None:
    """Write experiments/<name>.yaml: the default experiment with these scorers and these sections updated."""
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    file["scorers"] = scorers
    file["evaluate"]["baselines"] = {}
    for section, values in sections.items():
        file[section] |= values
    path = paths.experiment_file(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(file), encoding="utf-8")


def write_jsonl(path: Path, key: str, texts: list[str]) -> None:
    """Write one object a line with the text under `key`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts), encoding="utf-8")


def fit_parameters(**changes: Any) -> dict[str, Any]:
    """Return judge.fit for toxic.jsonl against calm.jsonl, plain.csv and the held-out talk.csv of raw/labels."""

    def text(file: str, unit: str) -> dict[str, Any]:
        return {"file": f"labels/{file}", "field": "text", "unit": unit, "skip": None}

    return {
        "positives": text("toxic.jsonl", "text"),
        "negatives": {
            "calm": text("calm.jsonl", "sentence"),
            "plain": text("plain.csv", "sentence"),
            "talk": text("talk.csv", "turn"),
        },
        "held_out_source": "talk",
        "window_words": [4, 8],
        "windows_per_positive": 2,
        "windows_per_negative_source": 120,
        "test_fraction": 0.25,
        "regularization": 10.0,
        "threshold": 0.5,
        "max_false_positive_rate": 0.1,
        "seed": 0,
    } | changes
