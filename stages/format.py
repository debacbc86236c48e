"""Turn downloaded files into prompts in one schema, split into train, dev, eval and further demonstrations."""

from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.data import DATASETS, splits
from pipeline.data.readers import read_raw
from pipeline.data.schema import to_json
from pipeline.io import paths, records

NODE = Node(
    axes=("experiment",),
    sections=("data",),
    reads=lambda at: (paths.raw(at.experiment),),
    outs=lambda at: (paths.formatted(at.experiment, split) for split in splits.NAMES),
    metrics=lambda at: (paths.metrics(at.experiment, "format"),),
)


def main(stage: Stage) -> None:
    """Read the raw files, split them, and write one JSONL a split and the counts."""
    data = stage.settings.data
    raw = read_raw(data, paths.raw(stage.experiment))
    result = splits.split(raw.rows, data)
    learnt = result.rows["demonstrations"] + result.rows["train"]
    result.rows["demonstrations"] += DATASETS[data.dataset].further(learnt, data)
    result.rows["demonstrations"].sort(key=lambda row: row.id)
    for name, members in result.rows.items():
        records.write_jsonl(paths.formatted(stage.experiment, name), map(to_json, members))
    beyond = {f"{name}_beyond_most": count for name, count in result.beyond_most.items() if count}
    counts = {**result.summary(), "left_out": raw.left_out | beyond}
    records.write_json(paths.metrics(stage.experiment, "format"), counts)


if __name__ == "__main__":
    run_stage("format", NODE, main, __doc__)
