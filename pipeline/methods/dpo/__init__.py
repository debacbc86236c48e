"""Direct preference optimisation (DPO, Rafailov et al. 2023) on chosen and rejected completions."""

from typing import TYPE_CHECKING, Any

from pipeline.config.declarations import Method
from pipeline.config.fields import PositiveFloat
from pipeline.config.sections import SupervisedSection

if TYPE_CHECKING:
    from pipeline.methods.training import Trained, Training


class DPOSection(SupervisedSection):
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7)."""

    beta: PositiveFloat


def train(training: "Training", section: DPOSection) -> "Trained":
    """Train the adapter on the pairs' own token ids."""
    from pipeline.methods.dpo.trainer import train as train_on_pairs

    return train_on_pairs(training, section)


READ_ROWS = 32  # completions that the reference reads at once


def _memory(sizes: Any, section: DPOSection) -> list[int]:
    new, pairs = sizes.completion_tokens, section.batch_size
    tokens = pairs * (sizes.prompts("train").longest + 2 * new)
    return [sizes.learning(tokens, 2 * pairs * new), sizes.reading(READ_ROWS * new)]


def _tokens(work: Any, section: DPOSection) -> tuple[float, float, float] | None:
    if work.pairs is None:
        return None
    tokens = work.pairs * (work.prompt_tokens + 2 * work.completion_tokens)  # a prompt is read once for both
    return tokens, section.epochs * tokens, 0


METHOD = Method(
    name="dpo",
    title="Direct preference optimization (DPO) on chosen and rejected completions, with LoRA",
    section=DPOSection,
    inputs="pairs",
    train=train,
    curve="objective/reward_margin",
    colour="#009e73",
    shape="diamond",
    memory=_memory,
    tokens=_tokens,
    sizes=("batch_size",),
)
