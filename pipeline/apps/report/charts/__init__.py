"""All charts of the report, as Vega-Lite made by Altair: on the page and, with the same data, on paper."""

from pipeline.apps.report.charts import comparisons, cost, judges, refusals, scores, toxicity, training
from pipeline.apps.report.charts.panel import Figure
from pipeline.apps.report.material import Material
from pipeline.apps.report.refusals import lines


def draw(material: Material) -> dict[str, Figure]:
    """Return every figure by name; one whose numbers are missing has no panels and says why in its caption."""
    evaluation = material.evaluation
    figures = [
        toxicity.by_judge(evaluation),
        toxicity.by_samples(evaluation),
        cost.pareto(evaluation),
        *([refusals.by_label(evaluation)] if lines(evaluation) else []),
        training.curves(material),
        scores.distribution(evaluation, material.histogram),
        toxicity.by_category(evaluation),
        comparisons.between(evaluation),
        judges.calibration(material.cards),
    ]
    return {figure.name: figure for figure in figures}
