"""Supervised fine-tuning of a causal policy with TRL's SFTTrainer."""

from typing import Any

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from pipeline.checkpoints import Checkpoints
from pipeline.config.sections import SupervisedSection
from pipeline.curves import ContinuedTrainer, CurveCallback, Report, show_bar_alone, trainer_arguments
from pipeline.packing import IGNORED, PackedModel
from pipeline.pairs import Pair

_CURVES = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "mean_token_accuracy": "policy/token_accuracy",
    "entropy": "objective/entropy",
}


class PackedSFTTrainer(ContinuedTrainer, SFTTrainer):
    """TRL's trainer, its loss and its metrics, on log-probabilities that were computed without waste."""

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss."""
        return super().compute_loss(PackedModel(model), *args, **kwargs)


def train(
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    sft: SupervisedSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> list[dict[str, float]]:
    """Train the adapter in place; return one row of curves an update."""
    curves = CurveCallback(_CURVES, report)
    make_trainer(model, tokenizer, pairs, sft, seed, checkpoints, curves).go_on()
    return curves.rows


def make_trainer(
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    sft: SupervisedSection,
    seed: int,
    checkpoints: Checkpoints,
    curves: CurveCallback,
) -> PackedSFTTrainer:
    """Return TRL's trainer over the sampled token ids, its own preparation switched off.

    That preparation would append EOS to every completion and teach the policy to stop at the length cap.
    """
    rows = [
        {"input_ids": pair.prompt_ids + pair.chosen_ids, "labels": [IGNORED] * len(pair.prompt_ids) + pair.chosen_ids}
        for pair in pairs
    ]
    arguments = SFTConfig(
        **trainer_arguments(sft, seed, checkpoints), dataset_kwargs={"skip_prepare_dataset": True}, packing=False
    )
    trainer = PackedSFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[curves],
    )
    trainer.checkpoints = checkpoints
    show_bar_alone(trainer)
    return trainer
