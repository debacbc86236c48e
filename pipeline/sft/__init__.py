"""L3: supervised fine-tuning on the chosen completions."""

from collections.abc import Callable
from typing import Any

from pipeline.checkpoints import Checkpoints
from pipeline.config.sections import SupervisedSection
from pipeline.errors import UserError
from pipeline.pairs import Pair

Report = Callable[[int, dict[str, float]], None]


def train(
    architecture: str,
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    sft: SupervisedSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> list[dict[str, float]]:
    """Train the adapter in place on the chosen completions' own token ids; return one row of curves an update.

    `report` is called with every row as it is made. The training continues from its newest checkpoint, if there is one.
    """
    from pipeline.sft import causal

    trainers = {"causal": causal.train}
    if architecture not in trainers:
        raise UserError(
            f"model.architecture: sft trains decoder-only policies only so far: expected "
            f"{' or '.join(trainers)}, got {architecture!r}; choose a decoder-only model.source"
        )
    return trainers[architecture](model, tokenizer, pairs, sft, seed, checkpoints, report)
