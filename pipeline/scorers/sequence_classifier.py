"""Any Hugging Face sequence classifier: the probability of one of its labels, or what is left to 1 of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Count, Section, Source, Text
from pipeline.io.errors import UserError, shortened, shown
from pipeline.io.hashing import files_digest
from pipeline.scorers import pretrained
from pipeline.scorers.pretrained import REMEDY, Window, check_pinned
from pipeline.scorers.scoring import Output, check_order, fingerprint, score_each
from pipeline.sources import checkpoint


class SequenceClassifierScorer(Section):
    """Any Hugging Face sequence classifier; its toxicity is the probability of `label`, or what is left to 1 of it.

    `means` tells whether the label is given to toxic or to harmless text.
    """

    kind: Literal["sequence_classifier"]
    source: Source
    label: Text
    means: Literal["toxic", "harmless"]
    max_tokens: Count


PICKLE = "pytorch_model.bin"


@dataclass(frozen=True)
class Label:
    """One output of a classifier. `sign`: 1 where it is given to toxic text, -1 where to harmless text.

    `is_alone`: each label is a yes or no of its own (sigmoid), else they share one probability (softmax).
    """

    index: int
    sign: int
    is_alone: bool

    def logit(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the label's own logit [N] of logits [N, labels], higher where the text is more toxic."""
        return self.sign * logits[:, self.index]

    def log_odds(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log(p / (1 - p)) [N] of the toxicity p; exact also where p rounds to 0 or 1."""
        own = logits[:, self.index]
        if self.is_alone:
            return self.sign * own
        others = np.delete(logits, self.index, axis=1)
        return np.asarray(self.sign * (own - np.logaddexp.reduce(others, axis=1)))

    def toxicity(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the toxicity [N] in [0, 1]."""
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * self.log_odds(logits))))  # the sigmoid, without overflow


@dataclass(frozen=True)
class SequenceClassifier:
    """Score a text with what a classifier says of one label."""

    name: str
    fingerprint: str
    model: Any
    window: Window
    label: Label

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text, None where the classifier gives no number."""
        return score_each(lambda part: self.label.toxicity(self.logits(part)), texts)

    def output(self, kind: Output, texts: Sequence[str]) -> list[float | None]:
        """Return the label's logit, or the log-odds of the toxicity, of every text: higher where it is more toxic."""
        read = self.label.logit if kind == "logit" else self.label.log_odds
        return score_each(lambda part: read(self.logits(part)), texts, lowest=-np.inf, highest=np.inf)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what the classifier reads of it."""
        return self.window.cut(texts)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the logits [N, labels] in the order of `texts`; NaN where the model gives no number."""
        import torch

        logits = np.empty((len(texts), int(self.model.config.num_labels)))
        for places, batch in self.window.batches(texts, progress=f"scoring ({self.name})"):
            with torch.inference_mode():
                logits[places] = self.model(**batch).logits.double().numpy()
        return logits


def load(name: str, config: SequenceClassifierScorer, folder: Path, *_: object) -> SequenceClassifier:
    """Load the classifier in `folder`, never from a network and without code of its own.

    Weights are safetensors, or a pytorch_model.bin that the source pins. Raises UserError when files are missing or
    broken, when there is no such label, and when six clear sentences are put in a wrong order.
    """
    from transformers import AutoModelForSequenceClassification

    pretrained.read_config(folder)
    tokenizer = pretrained.load_tokenizer(folder)
    pickled = _is_pickled(folder)
    if pickled:
        check_pinned(folder / PICKLE, folder, config.source)
    model = pretrained.load_model(folder, AutoModelForSequenceClassification, "a sequence classifier", pickled)
    pretrained.check_tokens(folder, tokenizer, model.get_input_embeddings().num_embeddings)
    pretrained.check_window(folder, model, config.max_tokens)
    settings = config.model_dump(include={"kind", "label", "means", "max_tokens"})
    files = {"model": files_digest(folder, (path for path in folder.rglob("*") if path.is_file()))}
    label = find_label(folder / "config.json", model.config, config)
    scorer = SequenceClassifier(name, fingerprint(settings, files), model, Window(tokenizer, config.max_tokens), label)
    with checkpoint.reading(folder, f"a classifier of up to {config.max_tokens} tokens", REMEDY):
        scorer.logits(["word", "word " * config.max_tokens])
    check_order(f"{folder}: the scorer {name!r}", scorer.score, "its `label` and `means`")
    return scorer


def find_label(place: Path, model_config: Any, config: SequenceClassifierScorer) -> Label:
    """Return the label of this name; raise UserError listing the model's labels when there is none, or no probability.

    The configuration's problem_type decides between sigmoid (multi_label_classification) and softmax; where it says
    nothing it is softmax, as in Transformers' own pipeline. A regression gives no probability, and neither does a
    softmax over a single label.
    """
    names = [str(model_config.id2label[index]) for index in sorted(model_config.id2label)]
    found = [index for index, name in enumerate(names) if name == config.label]
    if len(found) != 1:
        problem = "no label" if not found else f"{len(found)} labels"
        unnamed = all(name == f"LABEL_{index}" for index, name in enumerate(names))
        hint = " (they have no names of their own: its model card tells what each of them means)" if unnamed else ""
        listed = shortened(", ".join(names), 300)
        raise UserError(
            f"{place}: id2label: the model has {problem} {shown(config.label)}, its labels are {listed}{hint}; correct "
            "the scorer's `label`"
        )
    is_alone = model_config.problem_type == "multi_label_classification"
    is_shared = model_config.problem_type in (None, "single_label_classification") and len(names) > 1
    if not is_alone and not is_shared:
        raise UserError(
            f"{place}: problem_type: {shown(model_config.problem_type)} with {len(names)} labels gives no probability; "
            "choose a classifier (one output alone needs multi_label_classification)"
        )
    return Label(found[0], 1 if config.means == "toxic" else -1, is_alone)


def _is_pickled(folder: Path) -> bool:
    """Tell whether there are no safetensors but a pickle in their place."""
    safe = (checkpoint.WEIGHTS, f"{checkpoint.WEIGHTS}.index.json")
    return (folder / PICKLE).is_file() and not any((folder / name).exists() for name in safe)


SCORER = ScorerKind(
    "sequence_classifier",
    SequenceClassifierScorer,
    load,
    bytes=lambda section: 599 * 10**6,  # RoBERTa base in float32, and activations of a batch of texts
    has_logits=True,
)
