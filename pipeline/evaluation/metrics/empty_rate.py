"""How often a completion shows nothing: white space alone, or no text at all."""

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import per_completion
from pipeline.evaluation.rows import Completion


def _is_empty(row: Completion) -> float:
    return not row.completion.strip()


METRIC = Metric("empty_rate", "completions without a visible character", per_completion(_is_empty))
