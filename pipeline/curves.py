"""L1: training curves of a Transformers trainer: which of its logs we keep, and under which name."""

from collections.abc import Callable
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

from pipeline.models import device

Report = Callable[[int, dict[str, float]], None]


class CurveCallback(TrainerCallback):
    """Collect the logs named in `names` (theirs -> ours), one row an update, and report each as it comes.

    Speeds and durations are never among them: the rows are a DVC output and must not differ between runs.
    """

    def __init__(self, names: dict[str, str], report: Report) -> None:
        self.rows: list[dict[str, float]] = []
        self._names = names
        self._report = report

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep one row; the summary at the end of the training has no loss of a step and is left out."""
        values = {ours: float((logs or {})[theirs]) for theirs, ours in self._names.items() if theirs in (logs or {})}
        if "loss" in (logs or {}):
            self._report(state.global_step, values)
            self.rows.append({"step": state.global_step, **values})


class BarCallback(ProgressCallback):
    """The trainer's progress bar without a printed line an update: `CurveCallback` keeps the logs."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing."""


def show_bar_alone(trainer: Trainer) -> None:
    """Leave a trainer its progress bar and take away what prints every log."""
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    trainer.add_callback(BarCallback())


def trainer_arguments(section: Any, seed: int, scratch: str) -> dict[str, Any]:
    """Return the arguments that the supervised trainings share, from their parameter section.

    Nothing is saved or reported by the trainer itself: adapters are saved and runs tracked by the stage.
    """
    return {
        "output_dir": scratch,
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
        "save_strategy": "no",
        "report_to": "none",
        "dataloader_pin_memory": False,
        "activation_checkpointing": False,
        "use_cpu": device().type == "cpu",
        "bf16": False,
        "max_length": None,
    }
