"""How far a policy went from the reference: KL(policy || reference) in nats a completion, EOS included.

The summed log-prob under the policy minus that under the reference: the k1 estimate on the policy's own samples. Where
complete.top_p < 1 or temperature != 1 these come from another distribution than the log-probs, and it only approximates
the KL; the evaluation's meta says so. `kl_per_token` divides the sum by the tokens; no guard watches it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import NAN, Mean, Measure, Outputs
from pipeline.evaluation.rows import Completion
from pipeline.evaluation.statistics import Array


@dataclass(frozen=True)
class PerToken(Measure):
    """The sum of one number a completion over that of its tokens, each [P, S, K]."""

    cells: Array
    tokens: Array

    def value(self) -> float:
        """Return the quotient of both sums; NaN where nothing was analyzed."""
        tokens = np.nansum(self.tokens)
        return float(np.nansum(self.cells) / tokens) if tokens else NAN

    def of_seed(self, index: int) -> Self:
        """Return the same of one seed alone."""
        chosen = slice(index, index + 1)
        return type(self)(self.cells[:, chosen], self.tokens[:, chosen])


def _kl(row: Completion) -> float | None:
    return None if row.logprobs is None else row.logprobs.policy - row.logprobs.reference


def _analyzed_tokens(row: Completion) -> float | None:
    return None if row.logprobs is None else len(row.token_ids)


def _measure(outputs: Outputs) -> dict[str, Measure]:
    cells = outputs.cells(_kl)
    return {
        "kl": Mean(cells, comparable=False),
        "kl_per_token": PerToken(cells, outputs.cells(_analyzed_tokens)),
    }


METRIC = Metric("kl", "distance from the reference in nats", _measure)
