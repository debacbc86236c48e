"""Let every judge score every completion of one policy, without its prompt."""

from pipeline import paths
from pipeline.evaluation.rows import read_completions
from pipeline.evaluation.scoring import score_completions
from pipeline.records import write_jsonl
from pipeline.scorers import load_judges
from pipeline.stage import Stage, run_stage

SECTIONS = ("reward", "scorers", "score")


def main(stage: Stage) -> None:
    """Write one row a judge and completion; nothing when a judge could not score too many."""
    place = (stage.experiment, stage.seed, stage.policy)
    completions = read_completions(paths.completions(*place))
    settings, score = stage.settings, stage.settings.score
    judges = load_judges(score.judges, settings.reward, settings.scorers, stage.experiment)
    write_jsonl(paths.scores(*place), score_completions(completions, judges, score.max_missing_rate))


if __name__ == "__main__":
    run_stage("score", ("experiment", "seed", "policy"), SECTIONS, main, __doc__)
