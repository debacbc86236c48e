"""How long completions are: tokens, EOS left out. A policy can be harmless by saying little."""

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import per_completion
from pipeline.evaluation.rows import Completion


def _length(row: Completion) -> float:
    return len(row.text_tokens)


METRIC = Metric("length_mean", "length in tokens", per_completion(_length))
