"""Let every judge score every completion of one policy without its prompt, and the fluency model where there is one."""

from pipeline import paths
from pipeline.evaluation.fluency import fluency_rows
from pipeline.evaluation.rows import read_completions
from pipeline.evaluation.scoring import score_completions
from pipeline.records import write_jsonl
from pipeline.scorers import load_judges
from pipeline.stage import Stage, run_stage

SECTIONS = ("reward", "scorers", "fluency", "score")


def main(stage: Stage) -> None:
    """Write one row a judge and completion, then those of the fluency model; nothing when too many lack a score."""
    place = (stage.experiment, stage.seed, stage.policy)
    completions = read_completions(paths.completions(*place))
    settings, score = stage.settings, stage.settings.score
    judges = load_judges(score.judges, settings.reward, settings.scorers, stage.experiment)
    rows = score_completions(completions, judges, score.max_missing_rate)
    rows += fluency_rows(completions, settings.fluency, stage.experiment)
    write_jsonl(paths.scores(*place), rows)


if __name__ == "__main__":
    run_stage("score", ("experiment", "seed", "policy"), SECTIONS, main, __doc__)
