"""Make the policy that every method starts from and is compared to, and say in a manifest what it is."""

from pipeline.models import load_base, load_tokenizer, write_reference_manifest
from pipeline.stage import Stage, run_stage

SECTIONS = ("model", "reference")


def main(stage: Stage) -> None:
    """Check that base and tokenizer load, then record that the reference is the bare base."""
    load_base(stage.experiment, stage.settings.model)
    load_tokenizer(stage.experiment)
    write_reference_manifest(stage.experiment, stage.seed, stage.settings.reference.kind)


if __name__ == "__main__":
    run_stage("reference", ("experiment", "seed"), SECTIONS, main, __doc__)
