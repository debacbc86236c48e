"""Make the policy that every method starts from and is compared to, say what it is, and check it on the dev prompts."""

from pipeline import paths
from pipeline.data.schema import read_prompts
from pipeline.errors import UserError
from pipeline.models import blamed, load_policy_model, load_tokenizer, write_reference_manifest
from pipeline.policy import make_policy
from pipeline.policy.dev_check import dev_check
from pipeline.policy.prompts import tokenize_prompts
from pipeline.records import write_json
from pipeline.scorers import load_reward_scorer
from pipeline.stage import Stage, run_stage

SECTIONS = ("model", "reward", "dev", "reference")


def main(stage: Stage) -> None:
    """Record that the reference is the bare base, and how it does on the dev prompts before any training."""
    settings = stage.settings
    write_reference_manifest(stage.experiment, stage.seed, settings.reference.kind)
    tokenizer = load_tokenizer(stage.experiment)
    model = load_policy_model(stage.experiment, stage.seed, settings.model, "reference")
    policy = make_policy(settings.model.architecture, model, tokenizer)
    scorer = load_reward_scorer(settings.reward, stage.experiment)
    path = paths.formatted(stage.experiment, "dev")
    prompts = tokenize_prompts(read_prompts(path), tokenizer, settings.model, path)
    with blamed(stage.experiment, stage.seed, "reference"):
        dev = dev_check(policy, prompts, scorer, settings.dev)
    if dev["toxicity_mean"] is None:
        raise UserError(
            f"reward.scorer: {scorer.name} could score none of {dev['completions']} completions; choose or repair it"
        )
    write_json(paths.metrics(stage.experiment, "reference", stage.seed), {"dev": dev})


if __name__ == "__main__":
    run_stage("reference", ("experiment", "seed"), SECTIONS, main, __doc__)
