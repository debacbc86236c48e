"""Make chosen/rejected pairs: best and worst of k samples from the reference by the reward scorer, or a data set's."""

from typing import Any

from pipeline.apps.stage import Stage, run_stage
from pipeline.data.schema import read_prompts
from pipeline.io import paths
from pipeline.io.records import write_json
from pipeline.policy import context_of, make_policy
from pipeline.policy.loading import blamed, load_policy_model, load_tokenizer
from pipeline.policy.prompts import tokenize_prompts
from pipeline.preferences.of_data_set import Answers, check_dataset_pairs, dataset_pairs
from pipeline.preferences.on_policy import check_pairs, on_policy_pairs
from pipeline.preferences.pairs import Pair, write_pairs
from pipeline.preferences.polarity import BENIGN, check_polarity, lint
from pipeline.scorers.loading import load_refusal, load_reward
from pipeline.sources import checkpoint

SECTIONS = ("model", "reward", "refusal", "preferences")


def main(stage: Stage) -> None:
    """Write the pairs of the train prompts and how many prompts gave one."""
    made = _on_policy if stage.settings.preferences.kind == "on_policy" else _of_data_set
    pairs, counts = made(stage)
    write_pairs(paths.preferences(stage.experiment, stage.seed), pairs)
    write_json(paths.metrics(stage.experiment, "preferences", stage.seed), counts)


def _on_policy(stage: Stage) -> tuple[list[Pair], dict[str, Any]]:
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
    return pairs, counts


def _of_data_set(stage: Stage) -> tuple[list[Pair], dict[str, Any]]:
    """Return the pairs of the data set whose polarity the lint does not contradict, or that is overridden."""
    settings = stage.settings
    model, preferences = settings.model, settings.preferences
    reward = load_reward(settings.reward, stage.experiment)
    tokenizer = load_tokenizer(stage.experiment)
    path = paths.formatted(stage.experiment, "train")
    rows = read_prompts(path)
    prompts = tokenize_prompts(rows, tokenizer, model, path)
    config = checkpoint.read_config(paths.base_model(stage.experiment))
    context = context_of(model.architecture, config)
    answers = Answers(tokenizer, model, preferences.max_completion_tokens, context)
    pairs, counts = dataset_pairs(rows, prompts, answers, reward, preferences)
    check_dataset_pairs(counts, reward.name, path)
    benign = {row.id for row in rows if BENIGN in row.categories}
    found = lint(pairs, load_refusal(settings.refusal), preferences.lint, benign)
    check_polarity(found, preferences)
    declared = {"polarity": preferences.polarity, "polarity_override": preferences.polarity_override}
    return pairs, {**counts, **declared, "lint": found}


if __name__ == "__main__":
    run_stage("preferences", ("experiment", "seed"), SECTIONS, main, __doc__)
