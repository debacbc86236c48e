"""Tiny sequence classifiers with the files, keys and tensors of true ones, taught to tell hostile from kind.

RoBERTa as facebook/roberta-hate-speech-dynabench-r4-target (labels nothate and hate, softmax), BERT as
unitary/toxic-bert (six labels, each a yes or no of its own); both as Transformers 4 wrote them.
"""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.sources.checkpoints.texts import everything, labelled

POSITIONS = 512  # tokens, of true size, since tests want to cut texts where the true models do
PIECES = 500
STEPS, LEARNT = 300, 0.05  # of Adam at most, and the loss at which a classifier knows its sentences
TOXIC = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
ROBERTA: dict[str, Any] = {
    "architectures": ["RobertaForSequenceClassification"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": POSITIONS + 2,
    "model_type": "roberta",
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "transformers_version": "4.14.1",
    "type_vocab_size": 1,
    "use_cache": True,
    **_SIZES,
}
HATE_LABELS = {"id2label": {"0": "nothate", "1": "hate"}, "label2id": {"nothate": 0, "hate": 1}}
BERT: dict[str, Any] = {
    "architectures": ["BertForSequenceClassification"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "model_type": "bert",
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.7.0",
    "type_vocab_size": 2,
    "use_cache": True,
    **_SIZES,
}
XLM_ROBERTA: dict[str, Any] = ROBERTA | {
    "architectures": ["XLMRobertaForMaskedLM"],
    "model_type": "xlm-roberta",
    "output_past": True,
    "transformers_version": "4.17.0.dev0",
}
TOXIC_LABELS = {
    "id2label": {str(index): name for index, name in enumerate(TOXIC)},
    "label2id": {name: index for index, name in enumerate(TOXIC)},
    "problem_type": "multi_label_classification",
}


def write_hate_classifier(folder: Path) -> None:
    """Write the repository of the RoBERTa classifier; the same bytes at every call."""
    config = ROBERTA | HATE_LABELS | {"vocab_size": write_roberta_tokenizer(folder)}
    write_json(folder / "config.json", config)
    _save(folder, taught(folder, config, hostile=[0.0, 1.0], kind=[1.0, 0.0]), "roberta.embeddings.position_ids")


def write_toxic_bert(folder: Path) -> None:
    """Write the repository of the BERT classifier; the same bytes at every call."""
    config = BERT | TOXIC_LABELS | {"vocab_size": write_bert_tokenizer(folder)}
    write_json(folder / "config.json", config)
    model = taught(folder, config, hostile=[1.0] * len(TOXIC), kind=[0.0] * len(TOXIC))
    _save(folder, model, "bert.embeddings.position_ids")


def taught(folder: Path, config: dict[str, Any], hostile: list[float], kind: list[float]) -> Any:
    """Return a classifier of this configuration and the folder's tokenizer, fitted to the labelled sentences.

    `hostile` and `kind` are the targets of its labels, each a probability of its own.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    texts, is_hostile = zip(*labelled(), strict=True)
    tokens = AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="pt")
    targets = torch.tensor([hostile if one else kind for one in is_hostile])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoConfig.for_model(**config)
        model = AutoModelForSequenceClassification.from_config(made).eval()  # without dropout it learns at once
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(STEPS):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**tokens).logits, targets)
            if loss.item() < LEARNT:
                return model
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    raise AssertionError(f"the classifier did not learn its sentences: {loss.item()}")


def write_roberta_tokenizer(folder: Path) -> int:
    """Write vocab.json, merges.txt, tokenizer.json and their settings into the folder; return how many tokens."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(everything(), vocab_size=PIECES, special_tokens=special, show_progress=False)
    tokenizer.add_special_tokens(["<mask>"])  # the last, as in the true one
    tokenizer._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save_model(str(folder))
    size = int(tokenizer.get_vocab_size())
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8")) | {"<mask>": size - 1}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
    names |= {"pad_token": "<pad>", "cls_token": "<s>"}
    mask = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False}
    write_json(folder / "special_tokens_map.json", {**names, "mask_token": mask})
    settings = {"add_prefix_space": False, "model_max_length": POSITIONS, "name_or_path": "roberta-base"}
    settings |= {"errors": "replace", "tokenizer_class": "RobertaTokenizer", "trim_offsets": True}
    write_json(folder / "tokenizer_config.json", {**names, "mask_token": "<mask>", **settings})
    return size


def write_bert_tokenizer(folder: Path) -> int:
    """Write vocab.txt, tokenizer.json and their settings into the folder; return how many tokens."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import BertProcessing

    folder.mkdir(parents=True, exist_ok=True)
    unused = [f"[unused{number}]" for number in range(99)]
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # 100 to 103, as in the true one
    words = sorted({word for text in everything() for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    letters = sorted(set("".join(words)) - set(words))
    # not trained: the trainer breaks ties by the order of a hash table, another one in every process
    pieces = ["[PAD]", *unused, *special, *words, *letters, *(f"##{letter}" for letter in sorted(set("".join(words))))]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    tokenizer._tokenizer.post_processor = BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    names |= {"mask_token": "[MASK]"}
    write_json(folder / "special_tokens_map.json", names)
    settings = {"do_lower_case": True, "model_max_length": POSITIONS, "tokenize_chinese_chars": True}
    write_json(folder / "tokenizer_config.json", {**names, **settings, "tokenizer_class": "BertTokenizer"})
    return int(tokenizer.get_vocab_size())


def write_xlm_roberta_tokenizer(folder: Path) -> int:
    """Write sentencepiece.bpe.model, tokenizer.json and their settings into the folder; return how many tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece = _sentencepiece()
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece)
    tokenizer = _xlm_roberta_tokenizer(sentencepiece)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"model_max_length": POSITIONS})
    return len(tokenizer["model"]["vocab"])


def _sentencepiece() -> bytes:
    """Return a unigram model with <unk>, <s> and </s> as its first pieces."""
    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in everything() for line in text.splitlines()),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _xlm_roberta_tokenizer(sentencepiece: bytes) -> dict[str, Any]:
    """Return tokenizer.json as Transformers made it of the pieces: fairseq's special tokens stand before and after."""
    from base64 import b64encode

    from sentencepiece import sentencepiece_model_pb2

    held = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [[token, 0.0] for token in special]
    vocabulary += [[piece.piece, piece.score] for piece in held.pieces[3:]] + [["<mask>", 0.0]]
    added = dict(enumerate(special)) | {len(vocabulary) - 1: "<mask>"}
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    charsmap = b64encode(held.normalizer_spec.precompiled_charsmap).decode()
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    names = {token: {"id": token, "ids": [index], "tokens": [token]} for index, token in ((0, "<s>"), (2, "</s>"))}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, "lstrip": token == "<mask>", **flags} for index, token in added.items()
        ],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first, end],
            "pair": [start, first, end, end, second, end],
            "special_tokens": names,
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary},
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one of a checkpoint's JSON files."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def state_dict(model: Any, positions: str) -> dict[str, Any]:
    """Return the weights, with the buffer of positions that Transformers saved with them until 4.31."""
    import torch

    size = model.config.max_position_embeddings
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    return {positions: torch.arange(size).expand((1, -1)).clone()} | tensors


def _save(folder: Path, model: Any, positions: str) -> None:
    from safetensors.torch import save_file

    save_file(state_dict(model, positions), folder / "model.safetensors", metadata={"format": "pt"})
