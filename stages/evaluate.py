"""Turn scores into metrics, plots and a report: the only place where a result is computed. Loads no model."""

import logging

from pipeline.apps import report
from pipeline.apps.stage import Stage, run_stage
from pipeline.config.loader import load_roster
from pipeline.evaluation import assemble, plots
from pipeline.evaluation.evidence import gather
from pipeline.io import paths
from pipeline.io.records import write_json

SECTIONS = ("identity", "fluency", "refusal", "complete", "reward", "probe", "score", "evaluate")


def main(stage: Stage) -> None:
    """Write the evaluation and its plots from exactly the roster's seeds and policies, then the report from those."""
    settings = stage.settings
    evidence = gather(stage.experiment, load_roster(), settings)
    evaluation = assemble.assemble(evidence, settings)
    plots.write_plots(stage.experiment, evidence.judged, evaluation)
    write_json(paths.metrics(stage.experiment, "evaluation"), evaluation)
    logging.getLogger(__name__).info("report: %s", report.write(stage.experiment))


if __name__ == "__main__":
    run_stage("evaluate", ("experiment",), SECTIONS, main, __doc__)
