"""What the Transformers trainers of SFT and DPO share: curves, arguments, and checkpoints to continue from."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.policy import recomputation
from pipeline.policy.loading import device

Report = Callable[[int, dict[str, float]], None]
MOST_CHECKPOINTS = 100  # of one training: of all weights of a small model each takes longer than an update
SUPERVISED_CURVES = {  # a trainer's names -> ours
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "mean_token_accuracy": "policy/token_accuracy",
    "entropy": "objective/entropy",
}


class CurveCallback(TrainerCallback):
    """Collect the logs named in `names` (theirs -> ours), one row an update, and report each as it comes.

    Speeds and durations are never among them: the rows are a DVC output and must not differ between runs.
    """

    def __init__(self, names: dict[str, str], report: Report) -> None:
        self.rows: list[dict[str, float]] = []
        self._names = names
        self._report = report

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the rows of a training that is continued from the logs in its checkpoint."""
        self.rows = [{"step": logs["step"], **self._named(logs)} for logs in state.log_history if "loss" in logs]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep one row; the summary at the end of the training has no loss of a step and is left out."""
        if logs and "loss" in logs:
            values = self._named(logs)
            self._report(state.global_step, values)
            self.rows.append({"step": state.global_step, **values})

    def _named(self, logs: dict[str, Any]) -> dict[str, float]:
        return {ours: float(logs[theirs]) for theirs, ours in self._names.items() if theirs in logs}


class BarCallback(ProgressCallback):
    """The trainer's progress bar without a printed line an update: `CurveCallback` keeps the logs."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing."""


def show_bar_alone(trainer: Trainer) -> None:
    """Leave a trainer its progress bar and take away what prints every log."""
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    trainer.add_callback(BarCallback())


class ContinuedTrainer(Trainer):
    """A trainer whose checkpoints are sealed, and that goes on where the newest one ends."""

    checkpoints: Checkpoints
    _writing: Path | None = None  # the folder of the checkpoint that is being written

    def go_on(self) -> None:
        """Train from the newest checkpoint, or from the start where there is none."""
        latest = self.checkpoints.latest()
        self.train(resume_from_checkpoint=str(latest.folder) if latest else None)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: TRL's says nothing of this training, and a checkpoint is not for reading."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        def write(folder: Path) -> None:
            self._writing = folder
            try:
                super(ContinuedTrainer, self)._save_checkpoint(model, trial)
            finally:
                self._writing = None
            (inner,) = folder.iterdir()  # checkpoint-<step>
            for file in inner.iterdir():
                file.rename(folder / file.name)
            inner.rmdir()
            (folder / "training_args.bin").unlink()  # a pickle that nothing needs

        self.checkpoints.keep(self.state.global_step, write)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing or super()._get_output_dir(trial))


def trainer_arguments(section: Any, seed: int, checkpoints: Checkpoints, model: Any) -> dict[str, Any]:
    """Return the arguments that the supervised trainings share, from their parameter section.

    Nothing is reported by the trainer itself, and nothing saved but checkpoints: adapters are saved and runs tracked
    by the stage.
    """
    return {
        "output_dir": tempfile.gettempdir(),  # the trainer insists on a folder that is there, and writes nothing to it
        "learning_rate": section.learning_rate,
        "warmup_steps": section.warmup_ratio,
        "lr_scheduler_type": "linear",
        "num_train_epochs": section.epochs,
        "per_device_train_batch_size": section.batch_size,
        "gradient_accumulation_steps": section.gradient_accumulation,
        "max_grad_norm": section.max_grad_norm,
        "weight_decay": section.weight_decay,
        "seed": seed,
        "data_seed": seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if checkpoints.every else "no",
        "save_steps": checkpoints.every or 1,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "use_cpu": device().type == "cpu",
        "bf16": False,
        **_recomputed(model),
    }


def _recomputed(model: Any) -> dict[str, Any]:
    """Return the arguments of a trainer about activations; TRL's trainers would compute them anew by default."""
    is_on = recomputation.is_on(model)
    return {
        "activation_checkpointing": is_on,
        "activation_checkpointing_kwargs": dict(recomputation.SETTINGS) if is_on else None,
    }


def spread(section: Any, examples: int, checkpoints: Checkpoints) -> dict[str, Any]:
    """Return how often a training on so many examples leaves a checkpoint: as told, and at most a hundred times."""
    batches = math.ceil(examples / section.batch_size)
    updates = section.epochs * math.ceil(batches / section.gradient_accumulation)
    return {"save_steps": max(checkpoints.every, updates // MOST_CHECKPOINTS, 1)}


def trl_arguments(section: Any, seed: int, checkpoints: Checkpoints, model: Any) -> dict[str, Any]:
    """Return `trainer_arguments` and those that TRL's trainers have beside them."""
    return trainer_arguments(section, seed, checkpoints, model) | {"max_length": None}
