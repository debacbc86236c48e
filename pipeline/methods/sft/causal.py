"""Supervised fine-tuning of a causal policy with TRL's SFTTrainer."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from pipeline.config.sections import SupervisedSection
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.loop.curves import (
    SUPERVISED_CURVES,
    ContinuedTrainer,
    CurveCallback,
    Report,
    show_bar_alone,
    spread,
    trl_arguments,
)
from pipeline.methods.loop.packing import IGNORED, PackedModel
from pipeline.policy.demonstrations import Example
from pipeline.policy.quantization import adapters_kept


class PackedSFTTrainer(ContinuedTrainer, SFTTrainer):
    """TRL's trainer, its loss and its metrics, on log-probabilities that were computed without waste."""

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss."""
        return super().compute_loss(PackedModel(model), *args, **kwargs)


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
) -> PackedSFTTrainer:
    """Return TRL's trainer over the given token ids, its own preparation switched off.

    That preparation would append EOS to every completion and teach the policy to stop at the length cap.
    """
    rows = [
        {"input_ids": item.prompt_ids + item.target_ids, "labels": [IGNORED] * len(item.prompt_ids) + item.target_ids}
        for item in examples
    ]
    arguments = trl_arguments(section, seed, checkpoints, model) | spread(section, len(examples), checkpoints)
    with adapters_kept(model):
        trainer = PackedSFTTrainer(
            model=model,
            args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, packing=False),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[curves],
        )
    trainer.checkpoints = checkpoints
    show_bar_alone(trainer)
    return trainer
