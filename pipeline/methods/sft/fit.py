"""Supervised fine-tuning on given targets: chosen completions, or demonstrations."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config.sections import SupervisedSection
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.policy.demonstrations import Example

Report = Callable[[int, dict[str, float]], None]


def fit(
    architecture: str,
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    section: SupervisedSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> list[dict[str, float]]:
    """Train in place what of the model can learn on the targets' own token ids; return one row of curves an update.

    `report` is called with every row as it is made. The training continues from its newest checkpoint, if there is one.
    """
    from pipeline.methods.sft import causal, seq2seq

    trainers = {"causal": causal.train, "seq2seq": seq2seq.train}
    return trainers[architecture](model, tokenizer, examples, section, seed, checkpoints, report)
