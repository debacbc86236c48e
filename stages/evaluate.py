"""Turn scores into metrics and a plot: the only place where a result is computed. Loads no model."""

from pipeline import paths
from pipeline.config import load_roster
from pipeline.evaluation import loading, report
from pipeline.records import write_json
from pipeline.stage import Stage, run_stage

SECTIONS = ("complete", "reward", "score", "evaluate")


def main(stage: Stage) -> None:
    """Write the evaluation and its plot from exactly the roster's seeds and policies."""
    settings, roster = stage.settings, load_roster()
    judged = loading.read(
        stage.experiment, roster.seeds, roster.policies, settings.score.judges, settings.complete.samples_per_prompt
    )
    evaluation = report.assemble(judged, settings.complete, settings.reward, settings.evaluate)
    report.write_plot(paths.evaluation_plot(stage.experiment), evaluation)
    write_json(paths.metrics(stage.experiment, "evaluation"), evaluation)


if __name__ == "__main__":
    run_stage("evaluate", ("experiment",), SECTIONS, main, __doc__)
