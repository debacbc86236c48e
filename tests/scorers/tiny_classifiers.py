"""Tiny classifiers of text in the true file layouts of RoBERTa, BERT and Detoxify, which can tell hostile from kind.

They are trained for a moment on a few dozen sentences.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from pipeline.config.fields import Source
from pipeline.scorers.detoxify import DetoxifyScorer
from pipeline.scorers.scoring import HOSTILE, KIND
from pipeline.scorers.sequence_classifier import SequenceClassifierScorer

POSITIONS = 48
HEADS = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")
IDENTITIES = tuple(f"group_{number}" for number in range(9))  # that Detoxify's `unbiased` is trained on beside HEADS
JIGSAW = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")  # as `original` has them on disk
_HOSTILE = (
    "I hate you", "you are stupid", "those people are filthy animals", "you are disgusting", "that person is worthless",
    "I hope that you suffer", "we hate those people", "shut up",
)  # fmt: skip
_KIND = (
    "thank you for your help", "enjoy your walk", "we are happy to have you", "you are very kind", "what lovely work",
    "I like your morning walk", "that was wonderful", "you are all so lovely",
)  # fmt: skip
_ENDS = (".", "!", ", and nobody could have it")


def sentences() -> tuple[list[str], list[int]]:
    """Return sentences, the six that scorers are asked about among them, and 1 where one is hostile."""
    made = [(core + end, int(core in _HOSTILE)) for core, end in product((*_HOSTILE, *_KIND), _ENDS)]
    made += [(text, 1) for text in HOSTILE] + [(text, 0) for text in KIND]
    return [text for text, _ in made], [hostile for _, hostile in made]


def write_roberta(folder: Path, labels: Sequence[str] = ("nothate", "hate"), **settings: Any) -> Any:
    """Write config, vocab.json, merges.txt and safetensors; the last label is the hostile one. Return the model."""
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizer

    _write_merges(folder)
    tokenizer = RobertaTokenizer.from_pretrained(folder)
    config = _config(RobertaConfig, len(tokenizer), labels, settings, max_position_embeddings=POSITIONS + 2)
    return _written(folder, RobertaForSequenceClassification, config, tokenizer)


def write_bert(folder: Path, labels: Sequence[str] = ("harmless", "toxic"), **settings: Any) -> Any:
    """Write config, vocab.txt and safetensors; the last label is the hostile one. Return the model."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    _write_words(folder)
    tokenizer = BertTokenizer.from_pretrained(folder)
    config = _config(BertConfig, len(tokenizer), labels, settings, max_position_embeddings=POSITIONS)
    return _written(folder, BertForSequenceClassification, config, tokenizer)


def write_detoxify(folder: Path, variant: str = "unbiased") -> Any:
    """Write checkpoint/… as Detoxify's convert_weights.py does and tokenizer/… as the hub has it; return the model.

    The hub's configuration is of the model before it was trained: it knows nothing of the heads.
    """
    local = folder / "tokenizer"
    classes = JIGSAW if variant == "original" else HEADS
    heads = classes if variant == "original" else (*HEADS, *IDENTITIES)
    write = write_bert if variant == "original" else write_roberta
    model = write(local, heads, problem_type="multi_label_classification")
    (local / "model.safetensors").unlink()
    config = json.loads((local / "config.json").read_text())
    (local / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if key not in ("id2label", "label2id", "problem_type")})
    )
    kind = "Bert" if variant == "original" else "Roberta"
    prefix = kind.lower()
    weights = OrderedDict(model.state_dict())
    # A buffer that Transformers wrote out when these checkpoints were made.
    weights[f"{prefix}.embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
    arguments = {
        "num_classes": len(heads),
        "model_type": "bert-base-uncased" if variant == "original" else "roberta-base",
        "model_name": f"{kind}ForSequenceClassification",
        "tokenizer_name": f"{kind}Tokenizer",
    }
    dataset = {"type": "Jigsaw", "args": {"classes": list(classes)}}
    held = {"state_dict": weights, "config": {"arch": {"type": kind.upper(), "args": arguments}, "dataset": dataset}}
    (folder / "checkpoint").mkdir()
    torch.save(held, folder / "checkpoint" / f"toxic_{variant}.ckpt")
    return model


def classifier(folder: Path, **changes: Any) -> SequenceClassifierScorer:
    """Return the section of a scorer whose source pins every file of `folder`."""
    settings = {"label": "hate", "means": "toxic", "max_tokens": 32} | changes
    return SequenceClassifierScorer(kind="sequence_classifier", source=pinned(folder), **settings)


def detoxify(folder: Path, **changes: Any) -> DetoxifyScorer:
    """Return the section of a scorer whose sources pin every file of `folder`."""
    sources = {"checkpoint": pinned(folder / "checkpoint"), "tokenizer": pinned(folder / "tokenizer")}
    settings = {"variant": "unbiased", "head": "toxicity", "max_tokens": 32} | sources | changes
    return DetoxifyScorer(kind="detoxify", **settings)


def pinned(folder: Path) -> Source:
    """Return a source that pins every file that lies in `folder` now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return Source(uri=f"hub:somebody/classifier@{'0' * 40}", sha256=digests)


def as_pickle(folder: Path) -> Path:
    """Put pytorch_model.bin, as torch.save writes it, in the place of the safetensors; return its path."""
    from safetensors.torch import load_file

    path = folder / "pytorch_model.bin"
    torch.save(OrderedDict(load_file(folder / "model.safetensors")), path)
    (folder / "model.safetensors").unlink()
    return path


def _config(kind: Any, vocabulary: int, labels: Sequence[str], settings: dict[str, Any], **positions: int) -> Any:
    return kind(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **positions,
        **settings,
    )


def _written(folder: Path, kind: Any, config: Any, tokenizer: Any) -> Any:
    """Train a new model until it knows its sentences, write it, and return it; the same bytes at every call."""
    texts, hostile = sentences()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(60):
            loss = _loss(model(**batch).logits, torch.tensor(hostile), config.problem_type)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval().save_pretrained(folder)
    return model


def _loss(logits: torch.Tensor, hostile: torch.Tensor, problem_type: str | None) -> torch.Tensor:
    """Let the last label, or every one of several at once, be the hostile one's."""
    functional = torch.nn.functional
    if problem_type == "multi_label_classification":
        wanted = hostile[:, None].expand_as(logits).float()
        return functional.binary_cross_entropy_with_logits(logits, wanted)
    return functional.cross_entropy(logits, hostile * (logits.shape[1] - 1))


def _write_merges(folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer

    folder.mkdir(parents=True, exist_ok=True)
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(sentences()[0], vocab_size=500, special_tokens=special)
    bpe.save_model(str(folder))


def _write_words(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = " ".join([*sentences()[0], "word"]).lower()
    words = sorted({word.strip(".,!") for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "!", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
