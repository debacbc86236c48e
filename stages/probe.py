"""Measure what one policy makes of harmless sentences and of multiple-choice questions, by likelihood alone."""

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.evaluation.probe import given_texts, probe_rows
from pipeline.io import paths
from pipeline.io.records import write_jsonl
from pipeline.policy.adapters import merged
from pipeline.policy.loading import blamed, load_policy_model, load_tokenizer
from pipeline.policy.making import make_policy

NODE = Node(
    axes=("experiment", "seed", "policy"),
    sections=("model", "identity", "probe"),
    reads=lambda at: (
        paths.raw(at.experiment),
        paths.base_model(at.experiment),
        paths.adapter(at.experiment, at.seed, "reference"),
        paths.adapter(at.experiment, at.seed, at.policy),
    ),
    outs=lambda at: (paths.probes(at.experiment, at.seed, at.policy),),
)


def main(stage: Stage) -> None:
    """Write one row a sentence and one a choice."""
    settings = stage.settings
    tokenizer = load_tokenizer(stage.experiment)
    texts = given_texts(settings.identity, settings.probe, tokenizer, paths.raw(stage.experiment))
    model = load_policy_model(stage.experiment, stage.seed, settings.model, stage.policy)
    policy = make_policy(settings.model.architecture, model, tokenizer)
    with blamed(stage.experiment, stage.seed, stage.policy), merged(model):
        rows = probe_rows(policy, texts, settings.probe.batch_size)
    write_jsonl(paths.probes(stage.experiment, stage.seed, stage.policy), rows)


if __name__ == "__main__":
    run_stage("probe", NODE, main, __doc__)
