"""Complete the evaluation prompts with one policy: same prompts, decoding and noise for every policy."""

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.data.schema import read_prompts
from pipeline.evaluation.complete import completion_rows
from pipeline.io import paths
from pipeline.io.records import write_jsonl
from pipeline.policy.loading import blamed, load_policy_model, load_tokenizer
from pipeline.policy.making import make_policy
from pipeline.policy.prompts import tokenize_prompts
from pipeline.policy.sampling import derived_seed

NODE = Node(
    axes=("experiment", "seed", "policy"),
    sections=("model", "complete"),
    reads=lambda at: (
        paths.formatted(at.experiment, "eval"),
        paths.base_model(at.experiment),
        paths.adapter(at.experiment, at.seed, "reference"),
        paths.adapter(at.experiment, at.seed, at.policy),
    ),
    outs=lambda at: (paths.completions(at.experiment, at.seed, at.policy),),
)


def main(stage: Stage) -> None:
    """Write one row a completion."""
    settings = stage.settings
    tokenizer = load_tokenizer(stage.experiment)
    model = load_policy_model(stage.experiment, stage.seed, settings.model, stage.policy)
    policy = make_policy(settings.model.architecture, model, tokenizer)
    path = paths.formatted(stage.experiment, "eval")
    rows = read_prompts(path)
    prompts = tokenize_prompts(rows, tokenizer, settings.model, path)
    # The noise differs between the seeds of the roster, never between policies.
    seed = derived_seed(settings.complete.seed, stage.seed)
    with blamed(stage.experiment, stage.seed, stage.policy):
        completions = completion_rows(policy, rows, prompts, settings.complete, seed)
        write_jsonl(paths.completions(stage.experiment, stage.seed, stage.policy), completions)


if __name__ == "__main__":
    run_stage("complete", NODE, main, __doc__)
