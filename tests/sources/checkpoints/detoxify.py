"""Tiny checkpoints of Detoxify 0.5 as `convert_weights.py` of its repository writes them, and the files beside them.

The library takes weights and configuration from one file of torch.save, and the model's configuration and tokenizer
from the hub: bert-base-uncased for `original`, roberta-base for `unbiased`, xlm-roberta-base for `multilingual`.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from tests.sources.checkpoints import classifiers

NAMES = {  # as released
    "original": "toxic_original-c1212f89.ckpt",
    "unbiased": "toxic_debiased-c7548aa0.ckpt",
    "multilingual": "multilingual_debiased-0b549669.ckpt",
}
TOXIC = ["toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit"]
IDENTITIES = ["male", "female", "homosexual_gay_or_lesbian", "christian", "jewish", "muslim", "black", "white"]
IDENTITIES += ["psychiatric_or_mental_illness"]
_OPTIMIZER = {"type": "Adam", "args": {"lr": 3e-5, "weight_decay": 3e-6, "amsgrad": True}}


def write_unbiased(checkpoint: Path, tokenizer: Path) -> None:
    """Write the released file into one folder and the files of roberta-base into another."""
    config = classifiers.ROBERTA | {"vocab_size": classifiers.write_roberta_tokenizer(tokenizer)}
    config |= {"architectures": ["RobertaForMaskedLM"]}
    _write_debiased("unbiased", "roberta-base", "Roberta", checkpoint, tokenizer, config)


def write_multilingual(checkpoint: Path, tokenizer: Path) -> None:
    """Write the released file into one folder and the files of xlm-roberta-base into another."""
    config = classifiers.XLM_ROBERTA | {"vocab_size": classifiers.write_xlm_roberta_tokenizer(tokenizer)}
    _write_debiased("multilingual", "xlm-roberta-base", "XLMRoberta", checkpoint, tokenizer, config)


def _write_debiased(
    variant: str, base: str, kind: str, checkpoint: Path, tokenizer: Path, config: dict[str, Any]
) -> None:
    """Write a variant with outputs for groups of people too, of which the library names none."""
    classes = [*TOXIC, *IDENTITIES]
    hostile = [1.0] * len(TOXIC) + [0.0] * len(IDENTITIES)
    about = {"classes": classes[: len(TOXIC)], "identity_classes": IDENTITIES, "loss_weight": 0.75}
    arch = {"model_type": base, "model_name": f"{kind}ForSequenceClassification", "tokenizer_name": f"{kind}Tokenizer"}
    _write(variant, checkpoint, tokenizer, config, arch, about, hostile)


def write_original(checkpoint: Path, tokenizer: Path) -> None:
    """Write the released file into one folder and the files of bert-base-uncased into another."""
    config = classifiers.BERT | {"vocab_size": classifiers.write_bert_tokenizer(tokenizer)}
    config |= {"architectures": ["BertForMaskedLM"]}
    arch = {"model_type": "bert-base-uncased", "model_name": "BertForSequenceClassification"}
    arch |= {"tokenizer_name": "BertTokenizer"}
    about = {"classes": classifiers.TOXIC, "val_fraction": None, "create_val_set": False, "add_test_labels": False}
    _write("original", checkpoint, tokenizer, config, arch, about, [1.0] * len(classifiers.TOXIC))


def _write(
    variant: str,
    checkpoint: Path,
    tokenizer: Path,
    config: dict[str, Any],
    arch: dict[str, Any],
    about: dict[str, Any],
    hostile: list[float],
) -> None:
    import torch

    classifiers.write_json(tokenizer / "config.json", config)
    labels = {"num_labels": len(hostile), "problem_type": "multi_label_classification"}
    model = classifiers.taught(tokenizer, config | labels, hostile, kind=[0.0] * len(hostile))
    weights = classifiers.state_dict(
        model, "bert.embeddings.position_ids" if variant == "original" else "roberta.embeddings.position_ids"
    )
    held = {
        "state_dict": OrderedDict(weights),
        "config": {
            "name": "Jigsaw",
            "n_gpu": 1,
            "batch_size": 10,
            "accumulate_grad_batches": 3,
            "arch": {"type": str(config["model_type"]).upper(), "args": {"num_classes": len(hostile), **arch}},
            "dataset": {"type": "JigsawData", "args": about},
            "optimizer": _OPTIMIZER,
        },
    }
    checkpoint.mkdir(parents=True, exist_ok=True)
    torch.save(held, checkpoint / NAMES[variant])
