"""Fit the held-out judge on labelled text, or pin a pretrained one; measure every judge and write its card.

The judge of refusals, where an experiment has one, gets a card beside them: what it tells is no toxicity.
"""

from typing import Any

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.config.loader import Settings
from pipeline.config.sections import JudgeFit
from pipeline.data.readers import compared_text, read_raw
from pipeline.io import paths, records
from pipeline.scorers import cards
from pipeline.scorers.cards import describe_refusal
from pipeline.scorers.embedding_head import EmbeddingHeadScorer, Encoder, head_file
from pipeline.scorers.fitting import Sample, draw_samples, fit_heads
from pipeline.scorers.loading import load_judges, load_refusal
from pipeline.scorers.scoring import Scorer

NODE = Node(
    axes=("experiment",),
    sections=("data", "reward", "scorers", "refusal", "identity", "judge", "score"),
    reads=lambda at: (paths.raw(at.experiment), paths.reward(at.experiment), paths.scorers(at.experiment)),
    outs=lambda at: (paths.judge(at.experiment),),
    metrics=lambda at: (paths.metrics(at.experiment, "judge"),),
)


def main(stage: Stage) -> None:
    """Fit where there is a head to fit, then write the cards of score.judges beside it and as metrics."""
    settings, judge = stage.settings, stage.settings.judge
    samples: dict[str, Sample] = {}
    fitted: dict[str, Any] = {}
    if judge.fit is not None:
        prompts = judged_prompts(settings.data, stage.experiment)
        samples, fitted = fit_head(stage.experiment, judge.scorer, settings.scorers[judge.scorer], judge.fit, prompts)
    judges = load_judges(settings.score.judges, settings.reward, settings.scorers, stage.experiment)
    cards = {scorer.name: make_card(scorer, settings, samples, fitted) for scorer in judges}
    written: dict[str, Any] = {"cards": cards}
    if settings.refusal is not None:
        scorer = load_refusal(settings.refusal)
        written["refusal"] = describe_refusal(scorer, settings.refusal, paths.raw(stage.experiment))
    records.write_json(paths.judge(stage.experiment) / "card.json", written)
    records.write_json(paths.metrics(stage.experiment, "judge"), written)


def judged_prompts(data: Any, experiment: str) -> list[str]:
    """Return the prompts whose completions may be judged: all but those that the data set itself gives to training.

    Where content decides the split it is no matter which: the judge is the same whatever the fractions are.
    """
    rows = read_raw(data, paths.raw(experiment)).rows
    return [compared_text(row, data) for row, split in rows if split not in ("train", "demonstrations")]


def fit_head(
    experiment: str, name: str, config: EmbeddingHeadScorer, fit: JudgeFit, prompts: list[str]
) -> tuple[dict[str, Sample], dict[str, Any]]:
    """Write the head of the judge; return the labelled windows and what is known of the judge.

    No text that touches one of `prompts` is used. Raises UserError, and writes nothing, when the judge flags harmless
    text.
    """
    raw = paths.raw(experiment)
    encoder = Encoder(paths.scorers(experiment) / name, config.max_tokens)
    samples = draw_samples(fit, raw, prompts, encoder.encode)
    heads = fit_heads(samples, fit)
    fitted = cards.describe_fitted(samples, heads, fit)
    cards.check_false_positives(fitted, fit)
    heads[fit.held_out_source].save(head_file(experiment))
    return samples, fitted


def make_card(scorer: Scorer, settings: Settings, samples: dict[str, Sample], fitted: dict[str, Any]) -> dict[str, Any]:
    """Return one judge's card; without labelled text it has no figures but those on harmless identity sentences."""
    reward, fit = settings.reward, settings.judge.fit
    is_fitted = fit is not None and scorer.name == settings.judge.scorer
    threshold = cards.THRESHOLD if fit is None else fit.threshold
    definition = reward.scorer if scorer.name == reward.name else settings.scorers[scorer.name]
    known = {
        "scorer": scorer.name,
        "kind": definition.kind,
        "status": "fitted" if is_fitted else "pinned",
        "fingerprint": scorer.fingerprint,
        "held_out": scorer.name != reward.name,
        "threshold": threshold,
        "identity": cards.describe_identity(scorer, settings.identity, threshold),
    }
    if fit is None:
        return known
    return known | (fitted if is_fitted else cards.describe_pinned(samples, scorer, fit))


if __name__ == "__main__":
    run_stage("judge", NODE, main, __doc__)
