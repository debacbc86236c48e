"""Direct preference optimisation on chosen/rejected pairs, by the trainer of the policy's architecture."""

from collections.abc import Callable
from typing import Any

from pipeline.methods.dpo import DPOSection
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.policy.types import Policy
from pipeline.preferences.pairs import Pair

Report = Callable[[int, dict[str, float]], None]


def fit(
    architecture: str,
    policy: Policy,
    model: Any,
    tokenizer: Any,
    pairs: list[Pair],
    dpo: DPOSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> list[dict[str, float]]:
    """Train the adapter in place on the pairs' own token ids; return one row of curves an update.

    `policy` is `model` behind the seam. `report` is called with every row as it is made. The training continues from
    its newest checkpoint, if there is one. Raises NotFiniteError where our own trainer meets what is no number.
    """
    trainers: dict[str, Callable[[], list[dict[str, float]]]] = {
        "causal": lambda: _with_trl(model, tokenizer, pairs, dpo, seed, checkpoints, report),
        "seq2seq": lambda: _with_ours(policy, pairs, dpo, seed, checkpoints, report),
    }
    return trainers[architecture]()


def _with_trl(*arguments: Any) -> list[dict[str, float]]:
    from pipeline.methods.dpo import causal

    return causal.train(*arguments)


def _with_ours(*arguments: Any) -> list[dict[str, float]]:
    from pipeline.methods.dpo import trainer

    return trainer.train(*arguments)
