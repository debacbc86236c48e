"""Turn scores into metrics, plots and a report: the only place where a result is computed. Loads no model."""

import logging

from pipeline import paths, report
from pipeline.atomic import together
from pipeline.config import load_roster
from pipeline.data.schema import read_prompts
from pipeline.evaluation import assemble, capability, loading, plots
from pipeline.evaluation.assemble import Evidence
from pipeline.evaluation.cards import read_cards
from pipeline.records import write_json
from pipeline.stage import Stage, run_stage

SECTIONS = ("identity", "complete", "reward", "probe", "score", "evaluate")


def main(stage: Stage) -> None:
    """Write the evaluation and its plots from exactly the roster's seeds and policies, then the report from those."""
    settings = stage.settings
    evidence = gather(stage)
    evaluation = assemble.assemble(evidence, settings)
    with together():  # the report reads them from their places
        plots.write_plots(stage.experiment, evidence.judged, evaluation)
        write_json(paths.metrics(stage.experiment, "evaluation"), evaluation)
    logging.getLogger(__name__).info("report: %s", report.write(stage.experiment))


def gather(stage: Stage) -> Evidence:
    """Read what is to be evaluated, checked to belong together."""
    settings, roster = stage.settings, load_roster()
    judged = loading.read(
        stage.experiment, roster.seeds, roster.policies, settings.score.judges, settings.complete.samples_per_prompt
    )
    prompts = read_prompts(paths.formatted(stage.experiment, "eval"))
    return Evidence(
        judged=judged,
        probed=capability.read_probes(stage.experiment, roster.seeds, roster.policies, settings.probe.tasks),
        cards=read_cards(stage.experiment, judged.judges),
        demonstrations={row.id: row.demonstration for row in prompts if row.demonstration is not None},
    )


if __name__ == "__main__":
    run_stage("evaluate", ("experiment",), SECTIONS, main, __doc__)
