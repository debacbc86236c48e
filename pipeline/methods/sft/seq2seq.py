"""Supervised fine-tuning of an encoder-decoder policy with Transformers' Seq2SeqTrainer."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from pipeline.config.sections import SupervisedSection
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.loop.curves import (
    SUPERVISED_CURVES,
    ContinuedTrainer,
    CurveCallback,
    Report,
    show_bar_alone,
    spread,
    trainer_arguments,
)
from pipeline.methods.loop.packing import IGNORED
from pipeline.policy.demonstrations import Example


class TokenLoss:
    """Negative log-likelihood of the targets, a mean over those of an update, and what TRL's SFTTrainer tells of it."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []  # entropy and accuracy of every batch since they were asked for

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        """Return this batch's share; `num_items_in_batch` counts the targets of the whole update."""
        targets = labels[labels != IGNORED]
        logits = outputs.logits[labels != IGNORED].float()  # [N, V]
        self._seen.append(_statistics(logits, targets))
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / num_items_in_batch

    def told(self) -> dict[str, float]:
        """Return the means over the batches since the last call; nothing where there was none."""
        seen, self._seen = self._seen, []
        means = (sum(values) / len(values) for values in zip(*seen, strict=True))
        return dict(zip(("entropy", "mean_token_accuracy"), means, strict=bool(seen)))


class ExampleTrainer(ContinuedTrainer, Seq2SeqTrainer):
    """Transformers' trainer with the loss and the metrics of TRL's SFTTrainer."""

    compute_loss_func: TokenLoss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was seen since the last log, as TRL does."""
        super().log(logs | self.compute_loss_func.told(), start_time)


class Collator:
    """Pad examples on the right and let the decoder read each target behind its start token.

    Labels are the very ids of the targets; nothing depends on how a tokenizer pads or what it adds by itself.
    """

    def __init__(self, start: int, pad: int) -> None:
        self._start, self._pad = start, pad

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
        """Return ids and mask of the prompts [B, P], what the decoder reads and its labels [B, T]."""
        prompts, targets = ([row[key] for row in rows] for key in ("prompt_ids", "target_ids"))
        return {
            "input_ids": _padded(prompts, self._pad),
            "attention_mask": _padded([[1] * len(ids) for ids in prompts], 0),
            "decoder_input_ids": _padded([[self._start, *ids[:-1]] for ids in targets], self._pad),
            "labels": _padded(targets, IGNORED),
        }


def train(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    section: SupervisedSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> list[dict[str, float]]:
    """Train in place what of the model can learn; return one row of curves an update."""
    curves = CurveCallback(SUPERVISED_CURVES, report)
    make_trainer(model, tokenizer, examples, section, seed, checkpoints, curves).go_on()
    return curves.rows


def make_trainer(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    section: SupervisedSection,
    seed: int,
    checkpoints: Checkpoints,
    curves: CurveCallback,
) -> ExampleTrainer:
    """Return Transformers' trainer over the given token ids.

    It gets no tokenizer: it would write that one's special tokens into the model's configuration.
    """
    arguments = trainer_arguments(section, seed, checkpoints, model) | spread(section, len(examples), checkpoints)
    trainer = ExampleTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(**arguments, remove_unused_columns=False),
        train_dataset=Dataset.from_list([asdict(item) for item in examples]),
        data_collator=Collator(model.config.decoder_start_token_id, tokenizer.pad_token_id),
        compute_loss_func=TokenLoss(),
        callbacks=[curves],
    )
    trainer.checkpoints = checkpoints
    show_bar_alone(trainer)
    return trainer


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


@torch.no_grad()
def _statistics(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return the mean entropy in nats of logits [N, V], and the share of targets [N] that are the likeliest token."""
    everything = torch.log_softmax(logits, dim=-1)
    entropy = -torch.linalg.vecdot(everything.exp(), everything)
    return entropy.mean().item(), (logits.argmax(dim=-1) == targets).double().mean().item()
