"""The estimate of a stage that is about to load the policy, and the refusal of what memory cannot hold."""

import os
from typing import TYPE_CHECKING

from pipeline.apps.plan.memory import STAGES, Peak, peak
from pipeline.apps.plan.work import hours
from pipeline.config.sections import ExperimentFile
from pipeline.io import machine, paths
from pipeline.io.errors import UserError
from pipeline.methods import METHODS

if TYPE_CHECKING:
    from pipeline.apps.plan.shape import Shape

VARIABLE, IGNORED = "PLAN", "ignore"
GB = 10**9
_SIZES = {  # what to lower where a stage does not fit
    "reference": ("reference.batch_size", "dev.batch_size"),
    "preferences": ("preferences.batch_size",),
    **{
        f"train_{name}": (*(f"methods.{name}.{size}" for size in method.sizes), "dev.batch_size")
        for name, method in METHODS.items()
    },
    "complete": ("complete.batch_size",),
    "probe": ("probe.batch_size",),
}


def check(stage: str, experiment: str, file: ExperimentFile, policy: str) -> None:
    """Say on one line what the stage needs; raise UserError where this machine cannot give it.

    Nothing is said of stages that load no policy, nor of a base that is not there: loading it says so. An estimate that
    cannot be made stops nothing. PLAN=ignore in the environment lets a stage start that would be refused.
    """
    ignored = _ignored()
    if stage not in STAGES or not (paths.base_model(experiment) / "config.json").is_file():
        return
    try:
        shape = _shape(experiment, file)
        needed = _needed(shape, stage, experiment, file, policy)
        taken = "" if needed.device else _hours(hours(stage, experiment, file, shape.parameters), shape)
        rooms = {"host": machine.host(), "device": machine.device() if needed.device else None}
    except Exception as error:  # whatever is wrong here, loading finds it or it does not matter
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        print(f"{stage}: its memory could not be estimated ({reason}); it starts nevertheless", flush=True)
        return
    print(f"{stage}: {_told(needed, rooms['host'])}{taken}", flush=True)
    for bytes_, bound in zip(needed, rooms.values(), strict=True):
        if bound is not None and bytes_ > bound.bytes:
            if not ignored:
                raise UserError(_refusal(stage, file, bytes_, bound))
            print(f"{stage}: above what is left; it starts nevertheless, since {VARIABLE}={IGNORED}", flush=True)


def gb(count: float) -> str:
    """Spell a number of bytes."""
    return f"{count / GB:.1f} GB"


def _ignored() -> bool:
    value = os.environ.get(VARIABLE, "")
    if value not in ("", IGNORED):
        raise UserError(f"{VARIABLE}: expected {IGNORED} or nothing, got {value[:40]!r}; correct or unset it")
    return value == IGNORED


def _shape(experiment: str, file: ExperimentFile) -> "Shape":
    from transformers import AutoConfig

    from pipeline.apps.plan.shape import shape_of

    folder = paths.base_model(experiment)
    return shape_of(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False), file.model)


def _needed(shape: "Shape", stage: str, experiment: str, file: ExperimentFile, policy: str) -> Peak:
    from pipeline.policy.loading import device

    return peak(stage, experiment, file, shape, device().type == "cuda", policy)


def _hours(count: float | None, shape: "Shape") -> str:
    told = f"; {shape.parameters:,} parameters"
    if count is None:
        return told
    minutes = round(60 * count)
    if minutes < 2:
        return f"{told}, a minute or two"
    return f"{told}, roughly {count:.1f} hours" if minutes >= 120 else f"{told}, roughly {minutes} minutes"


def _told(needed: Peak, left: machine.AvailableMemory | None) -> str:
    card = f" and about {gb(needed.device)} of the GPU's" if needed.device else ""
    of = f"; {left.bound} {gb(left.bytes)}" if left else ""
    return f"needs about {gb(needed.host)} of memory at its peak{card}{of}"


def _refusal(stage: str, file: ExperimentFile, needed: int, left: machine.AvailableMemory) -> str:
    ways = [f"lower {' or '.join(_SIZES[stage])}"]
    if not file.model.gradient_checkpointing and stage.startswith(("train", "reference")):
        ways.append("set model.gradient_checkpointing to true")
    if file.model.dtype == "float32":
        ways.append("set model.dtype to bfloat16")
    return (
        f"about {gb(needed)} of memory are needed at its peak, but {left.bound} {gb(left.bytes)}; {', '.join(ways)}, "
        f"end other programs or use a machine with more memory; {VARIABLE}={IGNORED} in the environment tries it all "
        "the same"
    )
