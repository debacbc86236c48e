"""Supervised fine-tuning of a causal policy with TRL's SFTTrainer."""

from typing import Any

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from pipeline.config.sections import SupervisedSection
from pipeline.curves import CurveCallback, Report, trainer_arguments
from pipeline.pairs import Pair

IGNORED = -100  # PyTorch's cross entropy leaves these targets out

_CURVES = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "mean_token_accuracy": "policy/token_accuracy",
    "entropy": "objective/entropy",
}


def train(
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    sft: SupervisedSection,
    seed: int,
    scratch: str,
    report: Report,
) -> list[dict[str, float]]:
    """Train the adapter in place; return one row of curves an update."""
    curves = CurveCallback(_CURVES, report)
    make_trainer(model, tokenizer, pairs, sft, seed, scratch, curves).train()
    return curves.rows


def make_trainer(
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    sft: SupervisedSection,
    seed: int,
    scratch: str,
    curves: CurveCallback,
) -> SFTTrainer:
    """Return TRL's trainer over the sampled token ids, its own preparation switched off.

    That preparation would append EOS to every completion and teach the policy to stop at the length cap.
    """
    rows = [
        {"input_ids": pair.prompt_ids + pair.chosen_ids, "labels": [IGNORED] * len(pair.prompt_ids) + pair.chosen_ids}
        for pair in pairs
    ]
    arguments = SFTConfig(
        **trainer_arguments(sft, seed, scratch), dataset_kwargs={"skip_prepare_dataset": True}, packing=False
    )
    return SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[curves],
    )
