"""Train the policy with proximal policy optimisation against the reward scorer."""

from pipeline.apps.stage import Stage, run_stage
from pipeline.io.errors import NotFiniteError
from pipeline.methods import ppo
from pipeline.methods.training import keep_last_good, prepare, save

SECTIONS = ("model", "lora", "reward", "dev", "ppo")


def main(stage: Stage) -> None:
    """Write the adapter, its curves and its metrics."""
    settings = stage.settings
    training = prepare("ppo", stage.experiment, stage.seed, settings, stage.checkpoints)
    prompts = training.prompts("train")
    try:
        trained = ppo.train(
            training.policy,
            prompts,
            training.reward,
            settings.ppo,
            stage.seed,
            training.checkpoints,
            stage.run.log,
        )
        save(training, trained.curves, examples=len(prompts), health=trained.health)
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}; its adapter is kept in {keep_last_good(training)}") from None


if __name__ == "__main__":
    run_stage("train_ppo", ("experiment", "seed"), SECTIONS, main, __doc__, continues=True)
