"""Score samples of the train prompts, the reference's or a data set's own, and pair the best with the worst."""

from typing import Any

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.data.schema import read_prompts
from pipeline.io import paths
from pipeline.io.records import write_json
from pipeline.policy.loading import blamed, load_policy_model, load_tokenizer
from pipeline.policy.making import context_of, make_policy
from pipeline.policy.prompts import tokenize_prompts
from pipeline.preferences.of_data_set import Answers, check_dataset_pairs, dataset_pairs
from pipeline.preferences.on_policy import check_pairs, sample_on_policy
from pipeline.preferences.pairs import PromptSamples, samples_of, write_samples
from pipeline.preferences.polarity import BENIGN, check_polarity, lint
from pipeline.scorers.loading import load_refusal, load_reward
from pipeline.sources import checkpoint

NODE = Node(
    axes=("experiment", "seed"),
    sections=("model", "reward", "refusal", "preferences"),
    reads=lambda at: (
        paths.formatted(at.experiment, "train"),
        paths.base_model(at.experiment),
        paths.reward(at.experiment),
        paths.adapter(at.experiment, at.seed, "reference"),
    ),
    outs=lambda at: (paths.preferences(at.experiment, at.seed),),
    metrics=lambda at: (paths.metrics(at.experiment, "preferences", at.seed),),
)


def main(stage: Stage) -> None:
    """Write the scored samples of the train prompts with their pairs, and how many prompts gave one."""
    made = _on_policy if stage.settings.preferences.kind == "on_policy" else _of_data_set
    rows, counts = made(stage)
    write_samples(paths.preferences(stage.experiment, stage.seed), rows)
    write_json(paths.metrics(stage.experiment, "preferences", stage.seed), counts)


def _on_policy(stage: Stage) -> tuple[list[PromptSamples], dict[str, Any]]:
    settings = stage.settings
    tokenizer = load_tokenizer(stage.experiment)
    model = load_policy_model(stage.experiment, stage.seed, settings.model, "reference")
    policy = make_policy(settings.model.architecture, model, tokenizer)
    reward = load_reward(settings.reward, stage.experiment)
    path = paths.formatted(stage.experiment, "train")
    prompts = tokenize_prompts(read_prompts(path), tokenizer, settings.model, path)
    with blamed(stage.experiment, stage.seed, "reference"):
        rows, counts = sample_on_policy(policy, prompts, reward, settings.preferences, stage.seed)
    check_pairs(counts, reward.name, settings.preferences)
    return rows, counts


def _of_data_set(stage: Stage) -> tuple[list[PromptSamples], dict[str, Any]]:
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
    return [samples_of(pair) for pair in pairs], {**counts, **declared, "lint": found}


if __name__ == "__main__":
    run_stage("preferences", NODE, main, __doc__)
