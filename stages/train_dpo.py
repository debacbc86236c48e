"""Train the policy with direct preference optimisation on the pairs."""

from pipeline.apps.stage import Stage, run_stage
from pipeline.io import paths
from pipeline.methods import dpo
from pipeline.methods.training import prepare, save
from pipeline.preferences.pairs import read_pairs

SECTIONS = ("model", "lora", "reward", "dev", "dpo")


def main(stage: Stage) -> None:
    """Write the adapter, its curves and its metrics."""
    training = prepare("dpo", stage.experiment, stage.seed, stage.settings, stage.checkpoints)
    policy = training.policy
    pairs = read_pairs(paths.preferences(stage.experiment, stage.seed), policy.vocabulary, policy.context)
    curves = dpo.train(
        stage.settings.model.architecture,
        policy,
        training.model,
        training.tokenizer,
        pairs,
        stage.settings.dpo,
        stage.seed,
        training.checkpoints,
        stage.run.log,
    )
    save(training, curves, examples=len(pairs))


if __name__ == "__main__":
    run_stage("train_dpo", ("experiment", "seed"), SECTIONS, main, __doc__, continues=True)
