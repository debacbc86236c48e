"""How often a policy ends its completion itself, by EOS, before the length cap."""

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import per_completion
from pipeline.evaluation.rows import Completion


def _is_finished(row: Completion) -> float:
    return row.finished


METRIC = Metric("finished_rate", "completions that end by themselves", per_completion(_is_finished, comparable=False))
