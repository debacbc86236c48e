"""Turn scores into metrics, plots and a report: the only place where a result is computed. Loads no model."""

import logging
from pathlib import Path

from pipeline.apps import report
from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.config.roster import check_spelled_out, load_roster
from pipeline.evaluation import assemble, plots
from pipeline.evaluation.evidence import gather
from pipeline.io import paths
from pipeline.io.records import write_json

PLOTS = {  # of the evaluation, and what DVC draws of each
    "evaluation": {"x": "toxicity_mean", "y": "judged", "template": "bar_horizontal"},
    "pareto": {"x": "perplexity_median", "y": "toxicity_mean", "template": "scatter"},
    "scores": {"x": "bin", "y": "share"},
    "categories": {"x": "toxicity_mean", "y": "judged", "template": "bar_horizontal"},
    "prompts": {"x": "prompt_id", "y": "toxicity_mean", "template": "scatter"},
}

NODE = Node(
    axes=("experiment",),
    sections=(
        *("identity", "fluency", "refusal", "methods", "complete"),
        *("reward", "probe", "score", "evaluate"),
    ),
    roster=("seeds",),
    reads=lambda at: (
        *(place(at.experiment, 0, "").parents[1] for place in (paths.completions, paths.probes, paths.scores)),
        paths.formatted(at.experiment, "eval"),
        paths.metrics(at.experiment, "judge"),
        Path("pipeline/methods/__init__.py"),  # the order of policies
    ),
    metrics=lambda at: (paths.metrics(at.experiment, "evaluation"),),
    plots=lambda at: {paths.plot(at.experiment, name): drawn for name, drawn in PLOTS.items()},
)


def main(stage: Stage) -> None:
    """Write the evaluation and its plots from exactly the roster's seeds and policies, then the report from those."""
    settings = stage.settings
    roster = load_roster()
    check_spelled_out(roster, stage.experiment, list(settings.methods))
    evidence = gather(stage.experiment, roster, settings)
    evaluation = assemble.assemble(evidence, settings)
    plots.write_plots(stage.experiment, evidence.judged, evaluation)
    write_json(paths.metrics(stage.experiment, "evaluation"), evaluation)
    logging.getLogger(__name__).info("report: %s", report.write(stage.experiment))


if __name__ == "__main__":
    run_stage("evaluate", NODE, main, __doc__)
