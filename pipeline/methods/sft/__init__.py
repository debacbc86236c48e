"""Supervised fine-tuning (SFT) on the chosen completions."""

from typing import TYPE_CHECKING, Any

from pipeline.config.declarations import Method
from pipeline.config.sections import SupervisedSection

if TYPE_CHECKING:
    from pipeline.methods.training import Trained, Training


def train(training: "Training", section: SupervisedSection) -> "Trained":
    """Train the adapter on the chosen completion of every pair, by its own token ids."""
    from pipeline.methods.sft.trainer import train_on
    from pipeline.preferences.pairs import chosen

    return train_on(training, section, chosen(training.pairs()))


def _memory(sizes: Any, section: SupervisedSection) -> list[int]:
    return [sizes.supervised(section, sizes.completion_tokens)]


def _tokens(work: Any, section: SupervisedSection) -> tuple[float, float, float] | None:
    pairs = work.pairs
    return None if pairs is None else (0, pairs * section.epochs * (work.prompt_tokens + work.completion_tokens), 0)


METHOD = Method(
    name="sft",
    title="Supervised fine-tuning (SFT) on the chosen completions, with LoRA",
    section=SupervisedSection,
    inputs="pairs",
    train=train,
    curve="policy/loss",
    colour="#0072b2",
    shape="square",
    memory=_memory,
    tokens=_tokens,
    sizes=("batch_size",),
)
