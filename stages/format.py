"""Turn downloaded files into prompts in one schema, split by content into train, dev and eval."""

from pipeline import paths, records
from pipeline.data import splits
from pipeline.data.readers import read_raw
from pipeline.data.schema import to_json
from pipeline.stage import Stage, run_stage

SECTIONS = ("data",)


def main(stage: Stage) -> None:
    """Read the raw files, split them, and write one JSONL a split and the counts."""
    section = stage.settings.data
    rows = read_raw(section.dataset, paths.raw(stage.experiment))
    result = splits.split(rows, section.eval_fraction, section.dev_fraction)
    for name, members in result.rows.items():
        records.write_jsonl(paths.formatted(stage.experiment, name), map(to_json, members))
    records.write_json(paths.metrics(stage.experiment, "format"), result.summary())


if __name__ == "__main__":
    run_stage("format", ("experiment",), SECTIONS, main, __doc__)
