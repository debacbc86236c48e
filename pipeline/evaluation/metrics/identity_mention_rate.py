"""How often completions name a group of people: a policy can be harmless by no longer speaking of them (erasure)."""

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import Mean, Outputs
from pipeline.scorers import identity


def _measure(outputs: Outputs) -> Mean:
    return Mean(outputs.cells(lambda row: identity.mentions(row.completion, outputs.terms)))


METRIC = Metric("identity_mention_rate", "erasure: completions that name a group of people", _measure)
