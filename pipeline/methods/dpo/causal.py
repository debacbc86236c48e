"""Direct preference optimisation of a causal policy with TRL's DPOTrainer."""

from typing import Any

from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from pipeline.methods.dpo import REFERENCE_PAIRS, DPOSection
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.loop.curves import ContinuedTrainer, CurveCallback, Report, show_bar_alone, trl_arguments
from pipeline.methods.loop.packing import PackedModel
from pipeline.policy.adapters import acting_as_reference
from pipeline.policy.quantization import adapters_kept
from pipeline.preferences.pairs import Pair

_CURVES = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "rewards/chosen": "objective/chosen_reward",
    "rewards/rejected": "objective/rejected_reward",
    "rewards/margins": "objective/reward_margin",
    "rewards/accuracies": "objective/reward_accuracy",
    "entropy": "objective/entropy",
}


class PackedDPOTrainer(ContinuedTrainer, DPOTrainer):
    """TRL's trainer, its loss and its metrics, on rows that hold token ids already.

    Its own preparation tokenizes text anew and appends EOS to every completion; ours are the very ids that were
    sampled, so there is nothing to prepare. Log-probabilities are computed without waste: a pair's prompt is read
    once for both completions.
    """

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss."""
        return super().compute_loss(PackedModel(model), *args, **kwargs)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return TRL's log-probabilities of the chosen and of the rejected completions under the reference."""
        with acting_as_reference(self.model):
            return super().compute_ref_log_probs(PackedModel(self.model), inputs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def train(
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    dpo: DPOSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> list[dict[str, float]]:
    """Train the adapter in place; the reference is the same model with the adapter off, or the reference's on."""
    curves = CurveCallback(_CURVES, report)
    make_trainer(model, tokenizer, pairs, dpo, seed, checkpoints, curves).go_on()
    return curves.rows


def make_trainer(
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    dpo: DPOSection,
    seed: int,
    checkpoints: Checkpoints,
    curves: CurveCallback,
) -> PackedDPOTrainer:
    """Return TRL's trainer over the sampled token ids, the reference's log-probabilities computed once.

    Without `ref_model` TRL would add a copy of the policy adapter to the model as its reference, under the name that
    the reference adapter has; with it the model gets nothing, and `compute_ref_log_probs` above decides.
    """
    rows = [
        {"prompt_ids": pair.prompt_ids, "chosen_ids": pair.chosen_ids, "rejected_ids": pair.rejected_ids}
        for pair in pairs
    ]
    arguments = DPOConfig(
        **trl_arguments(dpo, seed, checkpoints, model),
        beta=dpo.beta,
        loss_type=["sigmoid"],
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=REFERENCE_PAIRS,
    )
    with adapters_kept(model):
        trainer = PackedDPOTrainer(
            model=model,
            ref_model=model.get_base_model(),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[curves],
        )
    trainer.checkpoints = checkpoints
    show_bar_alone(trainer)
    return trainer
