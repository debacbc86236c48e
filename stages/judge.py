"""Fit the held-out judge on labelled text, or pin a pretrained one; either way, write its card."""

from typing import Any

from pipeline import paths, records
from pipeline.config.sections import EmbeddingHeadScorer, JudgeFit
from pipeline.data.readers import read_raw
from pipeline.judge import card
from pipeline.judge.fit import draw_samples, fit_heads
from pipeline.scorers import load_scorer
from pipeline.scorers.embedding_head import head_file, load_encoder
from pipeline.stage import Stage, run_stage

SECTIONS = ("judge", "scorers")


def main(stage: Stage) -> None:
    """Fit and measure, or pin, then write the card beside the head and as metrics."""
    judge = stage.settings.judge
    config = stage.settings.scorers[judge.scorer]
    description = None if judge.fit is None else fit_head(stage.experiment, judge.scorer, config, judge.fit)
    made = card.make_card(load_scorer(judge.scorer, config, stage.experiment), config.kind, description)
    records.write_json(paths.judge(stage.experiment) / "card.json", made)
    records.write_json(paths.metrics(stage.experiment, "judge"), made)


def fit_head(experiment: str, name: str, config: EmbeddingHeadScorer, fit: JudgeFit) -> dict[str, Any]:
    """Write the head of the judge and return what is known of it; raise UserError when it flags harmless text."""
    raw = paths.raw(experiment)
    prompts = [row.prompt for row in read_raw(fit.excluded_dataset, raw)]
    samples = draw_samples(fit, raw, prompts, load_encoder(name, config, experiment).encode)
    heads = fit_heads(samples, fit)
    description = card.describe_fit(samples, heads, fit)
    card.check_false_positives(description, fit)
    heads[fit.held_out_source].save(head_file(experiment))
    return description


if __name__ == "__main__":
    run_stage("judge", ("experiment",), SECTIONS, main, __doc__)
