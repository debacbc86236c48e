"""Train the policy with supervised fine-tuning on the chosen completions."""

from pipeline.apps.stage import Stage, run_stage
from pipeline.io import paths
from pipeline.methods import sft
from pipeline.methods.training import prepare, save
from pipeline.preferences.pairs import chosen, read_pairs

SECTIONS = ("model", "lora", "reward", "dev", "sft")


def main(stage: Stage) -> None:
    """Write the adapter, its curves and its metrics."""
    training = prepare("sft", stage.experiment, stage.seed, stage.settings, stage.checkpoints)
    policy = training.policy
    pairs = read_pairs(paths.preferences(stage.experiment, stage.seed), policy.vocabulary, policy.context)
    curves = sft.train(
        stage.settings.model.architecture,
        training.model,
        training.tokenizer,
        chosen(pairs),
        stage.settings.sft,
        stage.seed,
        training.checkpoints,
        stage.run.log,
    )
    save(training, curves, examples=len(pairs))


if __name__ == "__main__":
    run_stage("train_sft", ("experiment", "seed"), SECTIONS, main, __doc__, continues=True)
