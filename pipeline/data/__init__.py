"""Data sets: one file each, one row schema, splits by content."""

from pipeline.config.declarations import DataSet, declared

DATASETS: dict[str, DataSet] = declared(
    __name__, "DATASET", ("realtoxicityprompts", "jsonl", "dialogsum", "rewrite", "chat")
)
