"""The loop around the updates of any method: what is reported and kept, going on from a checkpoint, and giving up."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from tqdm import tqdm

from pipeline.io.errors import NotFiniteError
from pipeline.methods.loop.optimizer import Optimizer
from pipeline.policy.types import Completion

if TYPE_CHECKING:
    from pipeline.methods.training import Training

Curves = list[dict[str, float]]
TIME = "time/"  # statistics that differ between runs: reported, and left out of the curves, which are a DVC output


class Update(NamedTuple):
    """What one step did: its statistics, and the completions that were learnt from."""

    statistics: dict[str, float]
    completions: Sequence[Completion]


class Trainer(Protocol):
    """What a method brings: so many steps, an optimiser, and running numbers of its own."""

    steps: int
    optimizer: Optimizer
    shown: Mapping[str, str]  # on the progress bar: statistic -> its name there

    def step(self, done: int) -> Update:
        """Make the step that follows `done` others.

        Hold the optimiser's weights once their output is known to be finite; raise NotFiniteError where it is not.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return the running numbers, for `json`."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the running numbers of another."""
        ...


def run(training: "Training", trainer: Trainer) -> Curves:
    """Make all steps and return one row of statistics for each, `step` from 1; the policy is changed in place.

    A training continues from its newest checkpoint, if there is one, and ends with the very weights of one that was
    never interrupted. Raises NotFiniteError, with the policy put back to the last weights whose numbers were finite,
    where a loss, a gradient or a logit is not finite.
    """
    torch.manual_seed(training.seed)  # dropout's, and nothing else draws from it
    curves = _continued(training, trainer)
    bar = tqdm(range(len(curves), trainer.steps), training.method, trainer.steps, initial=len(curves), unit="step")
    for done in bar:
        try:
            statistics, completions = trainer.step(done)
            if done + 1 == trainer.steps:
                _check_last(training, trainer.optimizer, completions)
        except NotFiniteError as error:
            raise _located(error, training, done + 1, trainer.optimizer.restore()) from None
        training.report(done + 1, statistics)
        bar.set_postfix({name: f"{statistics[key]:.3f}" for key, name in trainer.shown.items()})
        curves.append({"step": done + 1, **{key: statistics[key] for key in statistics if not key.startswith(TIME)}})
        if training.checkpoints.is_due(done + 1, trainer.steps) and trainer.optimizer.is_finite():
            state = {"curves": curves, "trainer": trainer.state()}
            training.checkpoints.keep(done + 1, lambda folder: trainer.optimizer.write(folder, state))  # noqa: B023
    return curves


def _continued(training: "Training", trainer: Trainer) -> Curves:
    """Put the trainer where the newest checkpoint is, if there is one; return the curves up to there."""
    latest = training.checkpoints.latest()
    if latest is None:
        return []
    state = trainer.optimizer.read(latest.folder)
    trainer.restore(state["trainer"])
    trainer.optimizer.hold(latest.step)
    curves: Curves = state["curves"]
    return curves


@torch.no_grad()
def _check_last(training: "Training", optimizer: Optimizer, completions: Sequence[Completion]) -> None:
    """Raise NotFiniteError where the last step left weights that are not finite, or whose numbers are not."""
    if not optimizer.is_finite():
        raise NotFiniteError("a weight is not finite")
    if not training.policy.analyze(completions).logprobs.isfinite().all():
        raise NotFiniteError("a log-probability is not finite", list({item.prompt.id: None for item in completions}))


def _located(error: NotFiniteError, training: "Training", step: int, restored: int) -> NotFiniteError:
    prompts = f" (prompts {', '.join(error.prompt_ids)})" if error.prompt_ids else ""
    remedy = f"lower {training.key}.learning_rate or use model.dtype float32"
    return NotFiniteError(
        f"{training.method} step {step}: {error}{prompts}; {remedy}; put back to step {restored}", error.prompt_ids
    )
