"""Detoxify as its library ships it (Hanu and Unitary 2020): BERT or RoBERTa with a sigmoid for each of its heads.

Its released checkpoints are pickles, and the library reads them as programs. Here the pinned bytes are read as tensors
and plain values alone, and the library gets what was read, written anew: a file that could run code never reaches it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Count, Section, Source, Text
from pipeline.io.errors import UserError, shortened, shown
from pipeline.io.hashing import files_digest
from pipeline.scorers import pretrained
from pipeline.scorers.pretrained import REMEDY, Window, check_pinned, read_pickle
from pipeline.scorers.scoring import Output, check_order, fingerprint, score_each
from pipeline.sources import checkpoint


class DetoxifyScorer(Section):
    """Detoxify as its library builds it; its toxicity is the probability of `head`.

    `checkpoint` is its released weights, `tokenizer` the configuration and tokenizer files that it asks the hub for.
    """

    kind: Literal["detoxify"]
    variant: Literal["original", "unbiased", "multilingual"]
    head: Text
    checkpoint: Source
    tokenizer: Source
    max_tokens: Count


CHECKPOINT, TOKENIZER = "checkpoint", "tokenizer"  # folders of its two sources
_MODELS = {  # what the library's three variants are, as `configs` of its repository has them
    "original": ("BertForSequenceClassification", "BertTokenizer"),
    "unbiased": ("RobertaForSequenceClassification", "RobertaTokenizer"),
    "multilingual": ("XLMRobertaForSequenceClassification", "XLMRobertaTokenizer"),
}


@dataclass(frozen=True)
class DetoxifyHead:
    """Score a text with the probability that Detoxify's `head` gives it."""

    name: str
    fingerprint: str
    library: Any
    head: str
    window: Window

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text, None where the library gives no number."""
        return score_each(self._probabilities, texts)

    def output(self, kind: Output, texts: Sequence[str]) -> list[float | None]:
        """Return the head's logit of every text: higher where it is more toxic, None where the model gives no number.

        Every head has a sigmoid of its own, so that its logit is the log-odds of its toxicity: both kinds are the same.
        It comes from the library's model, not from a probability, which float32 rounds to 0 or 1.
        """
        return score_each(self._logits, texts, lowest=-np.inf, highest=np.inf)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what the library reads of it."""
        return self.window.cut(texts)

    def _probabilities(self, texts: Sequence[str]) -> list[float]:
        probabilities = np.empty(len(texts))
        for places in self.window.places(texts):
            found = self.library.predict([texts[place] for place in places])[self.head]
            probabilities[places] = found  # a float, where it is of one text
        return [float(value) for value in probabilities]

    def _logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the head's logits [N] of the very tokens that the library's `predict` would read."""
        import torch

        logits, column = np.empty(len(texts)), self.library.class_names.index(self.head)
        for places in self.window.places(texts):
            part = [texts[place] for place in places]
            tokens = self.library.tokenizer(part, return_tensors="pt", truncation=True, padding=True)
            with torch.inference_mode():
                logits[places] = self.library.model(**tokens)[0][:, column].double().numpy()
        return logits


def load(name: str, config: DetoxifyScorer, folder: Path, *_: object) -> DetoxifyHead:
    """Load the library with the checkpoint and the tokenizer that lie in `folder`, and nothing from a network.

    Raises UserError when files are missing, broken or not the pinned ones, when there is no such head, and when six
    clear sentences are put in a wrong order.
    """
    path, local = _checkpoint_file(folder / CHECKPOINT), folder / TOKENIZER
    pretrained.read_config(local)
    pretrained.check_tokenizer_files(local)
    check_pinned(path, folder / CHECKPOINT, config.checkpoint)
    library = _library(config, path, local)
    tokenizer = library.tokenizer
    pretrained.check_tokens(local, tokenizer, library.model.get_input_embeddings().num_embeddings)
    pretrained.check_window(local, library.model, config.max_tokens)
    tokenizer.model_max_length = config.max_tokens  # a local tokenizer has no limit, and a long text crashes the model
    if config.head not in library.class_names:
        heads = shortened(", ".join(library.class_names), 300)
        raise UserError(f"{path}: no head {shown(config.head)}, its heads are {heads}; correct the scorer's `head`")
    settings = config.model_dump(include={"kind", "variant", "head", "max_tokens"})
    files = {"files": files_digest(folder, (file for file in folder.rglob("*") if file.is_file()))}
    window = Window(tokenizer, config.max_tokens)
    scorer = DetoxifyHead(name, fingerprint(settings, files), library, config.head, window)
    with checkpoint.reading(local, f"a classifier of up to {config.max_tokens} tokens", REMEDY):
        library.predict(["word", "word " * config.max_tokens])
    check_order(f"{path}: the scorer {name!r}", scorer.score, "its sources and its `head`")
    return scorer


def _checkpoint_file(folder: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(files) != 1:
        found = shortened(", ".join(path.name for path in files), 300) or "none"
        raise UserError(f"{folder}: expected one file, Detoxify's checkpoint, found {found}; {REMEDY}")
    return files[0]


def _library(config: DetoxifyScorer, path: Path, local: Path) -> Any:
    """Return Detoxify with the weights at `path` and the files in `local` in the place of the hub's.

    The library asks for what `arch.args.model_type` names, so that names the local folder here. It takes another folder
    as `huggingface_config_path`, but then forgets how many heads there are.
    """
    import torch
    from detoxify import Detoxify

    pretrained.quiet()
    held = read_pickle(path)
    _architecture(path, held, config)["model_type"] = str(local)
    _check_tensors(path, held["state_dict"])
    written = BytesIO()
    torch.save(held, written)
    written.seek(0)
    with checkpoint.reading(path, f"Detoxify's {config.variant}", REMEDY):
        library = Detoxify(config.variant, checkpoint=written)
    lacking = library.model.state_dict().keys() - held["state_dict"].keys()
    if lacking:
        raise UserError(f"{path}: the checkpoint lacks {checkpoint.named(lacking)}; {REMEDY}")
    return library


def _architecture(path: Path, held: Any, config: DetoxifyScorer) -> dict[str, Any]:
    """Return what the checkpoint says of its model; raise UserError unless it is Detoxify's and of this variant."""
    try:
        architecture: dict[str, Any] = held["config"]["arch"]["args"]
        found = architecture["model_name"], architecture["tokenizer_name"]
        whole = {"state_dict"} <= held.keys() and len(held["config"]["dataset"]["args"]["classes"]) > 0
    except (AttributeError, KeyError, TypeError, IndexError):
        whole = False
    if not whole:
        raise UserError(f"{path}: expected a checkpoint of Detoxify: its config and a state_dict; {REMEDY}")
    if found != _MODELS[config.variant]:
        expected = " with ".join(_MODELS[config.variant])
        raise UserError(
            f"{path}: expected {expected}, which {config.variant!r} is, got {shown(found)}; correct the scorer's "
            "`variant` or its source"
        )
    return architecture


def _check_tensors(path: Path, weights: Any) -> None:
    import torch

    if not isinstance(weights, dict) or not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise UserError(f"{path}: state_dict: expected tensors by name; {REMEDY}")
    checkpoint.check_finite(path, weights, REMEDY)


# Bytes of float32 weights, by the number of parameters that their authors state: BERT, RoBERTa and XLM-R base.
_BYTES = {"original": 438 * 10**6, "unbiased": 499 * 10**6, "multilingual": 1112 * 10**6}

SCORER = ScorerKind(
    "detoxify",
    DetoxifyScorer,
    load,
    bytes=lambda section: _BYTES[section.variant] + 100 * 10**6,  # and activations of a batch of texts
    sources=lambda section: {CHECKPOINT: section.checkpoint, TOKENIZER: section.tokenizer},
    weights=lambda section: section.checkpoint,
    has_logits=True,
)
