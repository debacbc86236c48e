"""Make chosen/rejected pairs: best and worst of k samples from the reference, by the reward scorer."""

from pipeline import paths
from pipeline.data.schema import read_prompts
from pipeline.models import blamed, load_policy_model, load_tokenizer
from pipeline.pairs import write_pairs
from pipeline.policy import make_policy
from pipeline.policy.prompts import tokenize_prompts
from pipeline.preferences import check_pairs, on_policy_pairs
from pipeline.records import write_json
from pipeline.scorers import load_reward
from pipeline.stage import Stage, run_stage

SECTIONS = ("model", "reward", "preferences")


def main(stage: Stage) -> None:
    """Write the pairs of the train prompts and how many prompts gave one."""
    settings = stage.settings
    tokenizer = load_tokenizer(stage.experiment)
    model = load_policy_model(stage.experiment, stage.seed, settings.model, "reference")
    policy = make_policy(settings.model.architecture, model, tokenizer)
    reward = load_reward(settings.reward, stage.experiment)
    path = paths.formatted(stage.experiment, "train")
    prompts = tokenize_prompts(read_prompts(path), tokenizer, settings.model, path)
    with blamed(stage.experiment, stage.seed, "reference"):
        pairs, counts = on_policy_pairs(policy, prompts, reward, settings.preferences, stage.seed)
    check_pairs(counts, reward.name, settings.preferences)
    write_pairs(paths.preferences(stage.experiment, stage.seed), pairs)
    write_json(paths.metrics(stage.experiment, "preferences", stage.seed), counts)


if __name__ == "__main__":
    run_stage("preferences", ("experiment", "seed"), SECTIONS, main, __doc__)
