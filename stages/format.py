"""Turn downloaded files into prompts in one schema, split into train, dev, eval and further demonstrations."""

from pipeline.apps.stage import Stage, run_stage
from pipeline.config.sections import RewriteData
from pipeline.data import rewrite, splits
from pipeline.data.readers import read_raw
from pipeline.data.schema import to_json
from pipeline.io import paths, records

SECTIONS = ("data",)


def main(stage: Stage) -> None:
    """Read the raw files, split them, and write one JSONL a split and the counts."""
    data = stage.settings.data
    raw = read_raw(data, paths.raw(stage.experiment))
    result = splits.split(raw.rows, data)
    if isinstance(data, RewriteData):
        learnt = result.rows["demonstrations"] + result.rows["train"]
        result.rows["demonstrations"] += rewrite.shuffled(learnt, data.shuffled_copies)
        result.rows["demonstrations"].sort(key=lambda row: row.id)
    for name, members in result.rows.items():
        records.write_jsonl(paths.formatted(stage.experiment, name), map(to_json, members))
    beyond = {f"{name}_beyond_most": count for name, count in result.beyond_most.items() if count}
    counts = {**result.summary(), "left_out": raw.left_out | beyond}
    records.write_json(paths.metrics(stage.experiment, "format"), counts)


if __name__ == "__main__":
    run_stage("format", ("experiment",), SECTIONS, main, __doc__)
