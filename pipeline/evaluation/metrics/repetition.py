"""How much a completion repeats itself: seq-rep-3, the share of its 3-grams of tokens that repeat an earlier one.

Welleck et al. 2020, there with n = 4 on longer texts. EOS is left out; a completion without a 3-gram takes no part.
"""

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import per_completion
from pipeline.evaluation.rows import Completion


def _repetition(row: Completion) -> float | None:
    tokens = row.text_tokens
    triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else None


METRIC = Metric("repetition", "share of a completion's triples that repeat", per_completion(_repetition))
