"""Make the policy that every method starts from and is compared to, say what it is, and check it on the dev prompts."""

import gc
from collections.abc import Mapping
from typing import Any

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.config.loader import Settings
from pipeline.config.sections import Requirements
from pipeline.data.schema import read_prompts
from pipeline.io import paths
from pipeline.io.atomic import staged
from pipeline.io.errors import UserError
from pipeline.io.hashing import adapter_fingerprint
from pipeline.io.records import write_csv, write_json
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.sft.trainer import train_on
from pipeline.methods.training import Sections, Training, summary
from pipeline.policy import loading
from pipeline.policy.demonstrations import Demonstrated, tokenize_demonstrations
from pipeline.policy.dev_check import dev_check
from pipeline.policy.making import make_policy
from pipeline.policy.prompts import tokenize_prompts
from pipeline.scorers.loading import load_reward
from pipeline.scorers.reward import Reward

NODE = Node(
    axes=("experiment", "seed"),
    sections=("model", "reward", "dev", "reference"),
    reads=lambda at: (
        *(paths.formatted(at.experiment, split) for split in ("demonstrations", "train", "dev")),
        paths.base_model(at.experiment),
        paths.reward(at.experiment),
    ),
    outs=lambda at: (paths.adapter(at.experiment, at.seed, "reference"),),
    metrics=lambda at: (paths.metrics(at.experiment, "reference", at.seed),),
)


def main(stage: Stage) -> None:
    """Write the reference, trained where the experiment has a task for it, and how it does on the dev prompts."""
    settings, place = stage.settings, (stage.experiment, stage.seed)
    tokenizer = loading.load_tokenizer(stage.experiment)
    reward = load_reward(settings.reward, stage.experiment)
    path = paths.formatted(stage.experiment, "dev")
    rows = read_prompts(path)
    prompts = tokenize_prompts(rows, tokenizer, settings.model, path)
    if settings.reference.kind == "base":
        trained: dict[str, Any] = {}
        loading.write_reference_manifest(*place, "base")
    else:
        assert stage.checkpoints is not None, "run_stage opens them where there is something to train"
        trained = _train(stage, stage.checkpoints, tokenizer, reward)
        gc.collect()  # the optimiser and its schedule refer to each other
    model = loading.load_policy_model(*place, settings.model, "reference")  # as every later stage has it
    policy = make_policy(settings.model.architecture, model, tokenizer)
    with loading.blamed(*place, "reference"):
        dev = dev_check(policy, prompts, reward.scorer, settings.dev, {row.id: row.demonstrations for row in rows})
    if dev["toxicity_mean"] is None:
        raise UserError(
            f"reward.scorer: {reward.name} could score none of {dev['completions']} completions; choose or repair it"
        )
    if trained:
        _check(dev, settings.reference.require)
    write_json(paths.metrics(stage.experiment, "reference", stage.seed), {"dev": dev, **trained})


def _train(stage: Stage, checkpoints: Checkpoints, tokenizer: Any, reward: Reward) -> dict[str, Any]:
    """Train on the demonstrations of the train split and write the reference; return what the metrics say of it."""
    settings, place = stage.settings, (stage.experiment, stage.seed)
    model = loading.new_reference_model(*place, settings.model, settings.reference)
    policy = make_policy(settings.model.architecture, model, tokenizer)
    found = _demonstrated(stage, tokenizer, policy.context)
    name, inputs, sections = "reference", "demonstrations", Sections(settings.model, settings.dev)
    training = Training(name, inputs, *place, model, tokenizer, policy, reward, sections, checkpoints, stage.run.log)
    trained = train_on(training, settings.reference, found.completions)
    counts = {"too_long": found.too_long, "without": found.without}
    folder = loading.write_reference(model, *place, settings.model)
    write_csv(paths.reference_curves(*place), trained.curves)
    return {"adapter_sha256": adapter_fingerprint(staged(folder)), "train": summary(model, trained) | counts}


def _demonstrated(stage: Stage, tokenizer: Any, context: int | None) -> Demonstrated:
    """Return the demonstrations of the train split, and those that no training has prompts of."""
    settings, experiment = stage.settings, stage.experiment
    rows, prompts = [], []
    train, more = (paths.formatted(experiment, split) for split in ("train", "demonstrations"))
    for path in (train, more):
        read = read_prompts(path)
        if read or path == train:
            prompts += tokenize_prompts(read, tokenizer, settings.model, path)
        rows += read
    longest = settings.reference.max_demonstration_tokens
    return tokenize_demonstrations(rows, prompts, tokenizer, settings.model, longest, context, train)


def _check(dev: Mapping[str, float | int | None], required: Requirements) -> None:
    """Raise UserError when the reference does not reach what the experiment requires of it."""
    for key, least in required:
        value = dev.get(key)
        if least is not None and (value is None or value < least):
            found = "nothing to measure it on" if value is None else f"{value:.3f}"
            raise UserError(
                f"reference.require.{key}: expected at least {least} on the dev prompts, got {found}; train the "
                "reference longer or at another reference.learning_rate, or require less"
            )


def trains(settings: Settings) -> bool:
    """Tell whether there is anything to train, and so to continue."""
    return bool(settings.reference.kind != "base")


if __name__ == "__main__":
    run_stage("reference", NODE, main, __doc__, continues=trains)
