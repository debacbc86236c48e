"""Train the policy with one method: a LoRA adapter on the reference, checked on the dev prompts."""

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.io import paths
from pipeline.io.errors import NotFiniteError
from pipeline.methods import METHODS
from pipeline.methods.training import keep_last_good, prepare, save

NODE = Node(
    axes=("experiment", "seed", "method"),
    sections=("model", "lora", "reward", "dev", "methods.{method}"),
    reads=lambda at: (
        paths.formatted(at.experiment, "train")
        if METHODS[at.method].inputs == "prompts"
        else paths.preferences(at.experiment, at.seed),
        paths.formatted(at.experiment, "dev"),
        paths.base_model(at.experiment),
        paths.reward(at.experiment),
        paths.adapter(at.experiment, at.seed, "reference"),
    ),
    outs=lambda at: (paths.adapter(at.experiment, at.seed, at.method),),
    metrics=lambda at: (paths.metrics(at.experiment, at.method, at.seed),),
    plots=lambda at: {paths.curves(at.experiment, at.seed, at.method): {"x": "step", "y": METHODS[at.method].curve}},
)


def main(stage: Stage) -> None:
    """Write the adapter, its curves and its metrics."""
    method = METHODS[stage.method]
    training = prepare(method, stage.experiment, stage.seed, stage.settings, stage.checkpoints, stage.run.log)
    try:
        save(training, method.train(training, stage.settings.methods[method.name]))
    except NotFiniteError as error:
        kept = keep_last_good(training)
        raise NotFiniteError(f"{error}; its adapter is kept in {kept}" if kept else str(error)) from None


if __name__ == "__main__":
    run_stage("train", NODE, main, __doc__, continues=True)
