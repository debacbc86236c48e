"""Let every judge score every completion of one policy without its prompt, the fluency model, the judge of refusals."""

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.evaluation.rows import read_completions
from pipeline.evaluation.score import refusal_rows, score_completions
from pipeline.io import paths
from pipeline.io.records import write_jsonl
from pipeline.scorers.loading import load_judges, load_refusal

NODE = Node(
    axes=("experiment", "seed", "policy"),
    sections=("reward", "scorers", "fluency", "refusal", "score"),
    reads=lambda at: (
        paths.fluency(at.experiment),
        paths.reward(at.experiment),
        paths.scorers(at.experiment),
        paths.judge(at.experiment),
        paths.completions(at.experiment, at.seed, at.policy),
    ),
    outs=lambda at: (paths.scores(at.experiment, at.seed, at.policy),),
)


def main(stage: Stage) -> None:
    """Write one row a judge and completion, then those of the fluency model and of refusals where they are asked for.

    Nothing is written when too many lack a score.
    """
    place = (stage.experiment, stage.seed, stage.policy)
    completions = read_completions(paths.completions(*place))
    settings, score = stage.settings, stage.settings.score
    judges = load_judges(score.judges, settings.reward, settings.scorers, stage.experiment)
    rows = score_completions(completions, judges, score.max_missing_rate)
    if settings.fluency.kind != "base":
        from pipeline.evaluation.fluency import fluency_rows  # late: the base model's experiments load no libraries

        rows += fluency_rows(completions, settings.fluency, stage.experiment)
    if settings.refusal is not None:
        rows += refusal_rows(completions, load_refusal(settings.refusal), score.max_missing_rate)
    write_jsonl(paths.scores(*place), rows)


if __name__ == "__main__":
    run_stage("score", NODE, main, __doc__)
