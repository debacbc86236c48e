"""Gather what an evaluation is computed from: the stage `evaluate` and `make verify` read the same in the same way."""

from typing import Any

from pipeline.config.roster import Roster
from pipeline.data.schema import read_prompts
from pipeline.evaluation import capability, checking, loading
from pipeline.evaluation.assemble import Evidence
from pipeline.evaluation.cards import check_refusal, read_cards
from pipeline.io import paths


def gather(experiment: str, roster: Roster, settings: Any) -> Evidence:
    """Read what is to be evaluated, checked to belong together; raise UserError naming the file that does not.

    `settings` has the sections fluency, refusal, complete, probe and score.
    """
    policies = roster.policies_of(experiment)
    judged = loading.read(
        experiment,
        roster.seeds,
        policies,
        settings.score.judges,
        settings.complete.samples_per_prompt,
        fluency=settings.fluency.kind == "causal_lm",
        refusal=settings.refusal is not None,
    )
    prompts = read_prompts(paths.formatted(experiment, "eval"))
    checking.check(experiment, judged, prompts, settings)
    if judged.refusal_sha256 is not None:
        check_refusal(experiment, judged.refusal_sha256)
    return Evidence(
        judged=judged,
        probed=capability.read_probes(experiment, roster.seeds, policies, settings.probe.tasks),
        cards=read_cards(experiment, judged.judges),
        demonstrations={row.id: row.demonstrations for row in prompts if row.demonstrations},
    )
