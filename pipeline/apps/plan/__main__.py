"""Print what an experiment needs, without downloading weights: `python -m pipeline.apps.plan NAME`."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.apps.plan import memory
from pipeline.apps.plan.checking import gb
from pipeline.apps.plan.configuration import configuration
from pipeline.apps.plan.shape import Shape, shape_of
from pipeline.apps.plan.work import hours
from pipeline.config.loader import load
from pipeline.config.sections import CausalFluency, ExperimentFile
from pipeline.io import machine
from pipeline.io.errors import Arguments, UserError

FLUENCY_BYTES = 550 * 10**6  # of the causal model that fluency.kind causal_lm names: SmolLM2-135M in float32
JUDGING = ("judge", "score")
COLUMNS = ("stage", "memory", "GPU memory", "hours")


class Need(NamedTuple):
    """What one stage needs; hours are None where nobody knows."""

    stage: str
    peak: memory.Peak
    hours: float | None


class Plan(NamedTuple):
    """What an experiment needs: all of its stages, and the largest."""

    source: str
    shape: Shape
    trainable: int
    needs: list[Need]

    @property
    def largest(self) -> Need:
        """Return the stage that needs the most memory."""
        return max(self.needs, key=lambda need: need.peak.total)


def plan(experiment: str) -> Plan:
    """Estimate an experiment from its file and its model's configuration; raise UserError where that cannot be had."""
    file = load(experiment, ()).whole
    config, source = configuration(experiment, file.model)
    shape = shape_of(config, file.model)
    on_cuda = file.model.quantization is not None or machine.device() is not None
    needs = []
    for stage in memory.STAGES:
        if stage.startswith("train_") and stage.removeprefix("train_") not in file.methods:
            continue
        needed = memory.peak(stage, experiment, file, shape, on_cuda)
        taken = None if on_cuda else hours(stage, experiment, file, shape.parameters)
        needs.append(Need(stage, needed, taken))
    fluency = FLUENCY_BYTES if isinstance(file.fluency, CausalFluency) else 0
    needs += [Need(stage, memory.Peak(memory.judging_peak(stage, file, fluency), 0), None) for stage in JUDGING]
    trainable = shape.parameters if file.reference.kind == "full" else shape.trainable(file.lora)
    return Plan(source, shape, trainable, needs)


def lines(experiment: str, found: Plan, file: ExperimentFile) -> list[str]:
    """Return the plan as text: parameters, a table of the stages, the largest, and what is left here."""
    shape, model = found.shape, file.model
    told = [f"{experiment}: {found.source}"]
    kind = f"{model.quantization} and {model.dtype}" if model.quantization else model.dtype
    told.append(f"parameters: {shape.parameters:,}, {gb(shape.weights)} of weights in {kind}")
    share = found.trainable / shape.parameters
    what = "all weights of the reference" if file.reference.kind == "full" else "a LoRA adapter"
    told.append(f"trained: {found.trainable:,} ({share:.1%}, {what})")
    told += ["", "{:<14}{:>10}{:>14}{:>10}".format(*COLUMNS)]
    for need in found.needs:
        card = gb(need.peak.device) if need.peak.device else "-"
        told.append(f"{need.stage:<14}{gb(need.peak.host):>10}{card:>14}{_spelled(need.hours):>10}")
    largest = found.largest
    on_card = f" and {gb(largest.peak.device)} of the GPU's" if largest.peak.device else ""
    told += ["", f"largest: {largest.stage}, {gb(largest.peak.host)} of memory{on_card}"]
    for left in (machine.host(), machine.device()):
        told += [f"here: {left.bound} {gb(left.bytes)}"] if left else []
    return [*told, "", *_notes(found, file)]


def _spelled(count: float | None) -> str:
    if count is None:
        return "-"
    return "<0.01" if count < 0.01 else f"{count:.2f}" if count < 1 else f"{count:.1f}"


def _notes(found: Plan, file: ExperimentFile) -> list[str]:
    if any(need.peak.device for need in found.needs):
        told = ["Estimates for a GPU, on which nothing was measured here; its hours are not known."]
        if file.model.quantization is not None and machine.device() is None:
            told.append("model.quantization needs CUDA, which is not here.")
        return told
    return [
        "Memory is an estimate of each stage's peak. Hours are a rough figure for two cores and one seed, in",
        "proportion to what SmolLM2-135M took; - is not known: it needs the prompts or pairs that a stage makes.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the plan; exit with code 2 and one message on bad input."""
    parser = Arguments(prog="python -m pipeline.apps.plan", description=__doc__)
    parser.add_argument("experiment", help="name of a file in experiments/, without .yaml")
    experiment = parser.parse_args(arguments).experiment
    try:
        found = plan(experiment)
        print("\n".join(lines(experiment, found, load(experiment, ()).whole)))
    except UserError as error:
        print(f"plan: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
