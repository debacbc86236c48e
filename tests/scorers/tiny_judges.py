"""A tiny experiment for the judge stage: labelled texts on disk, three judges, and the stage itself."""

import csv
import shutil
from pathlib import Path
from typing import Any

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.records import read_json
from pipeline.tracking.recording import NullRun
from stages import judge
from tests.scorers.tiny import sentences, write_jsonl, write_parameters

PROMPTS = sentences(5, seed=7, toxic=True)
IDENTITY = {"terms": ["tall", "short", "silly"], "templates": ["The {term} man reads a book.", "A {term} woman sits."]}


def keywords(*words: str) -> dict[str, Any]:
    """Return the definition of a scorer that these words determine."""
    return {"kind": "keyword", "keywords": list(words), "saturation": 1}


def write_experiment(
    fit: dict[str, Any] | None, judges: tuple[str, ...] = ("tiny", "paid"), reward: str = "silly", **sections: Any
) -> None:
    """Write exp: the first of `judges` is held out, `paid` is the reward scorer, the others count words."""
    encoder = {"uri": "file:nowhere", "sha256": "0" * 64}
    tiny = {"kind": "embedding_head", "source": encoder, "max_tokens": 32}
    write_parameters(
        scorers={"words": keywords("darn"), "the": keywords("the")} | ({"tiny": tiny} if fit else {}),
        reward={"name": "paid", "scorer": keywords(reward)},
        judge={"scorer": judges[0], "fit": fit},
        score={"judges": list(judges)},
        identity=sections.get("identity", IDENTITY),
        data={"dataset": "jsonl"} | sections.get("data", {}),
    )


def write_labels(encoder: Path) -> None:
    """Put the encoder, five prompts, and labelled texts of which three are prompts where `download` puts them."""
    shutil.copytree(encoder, paths.scorers("exp") / "tiny")
    raw = paths.raw("exp")
    write_jsonl(raw / "prompts" / "prompts.jsonl", "prompt", PROMPTS)
    write_jsonl(raw / "labels" / "toxic.jsonl", "text", sentences(120, seed=1, toxic=True) + PROMPTS[:3])
    write_jsonl(raw / "labels" / "calm.jsonl", "text", sentences(150, seed=2))
    for seed, name in enumerate(["plain", "talk"], start=3):
        write_csv(raw / "labels" / f"{name}.csv", sentences(150, seed=seed))


def write_csv(path: Path, texts: list[str]) -> None:
    """Write one text a row under the header `text`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])


def run_stage() -> dict[str, Any]:
    """Run the stage and return the cards that it wrote, by judge."""
    judge.main(Stage(name="judge", experiment="exp", settings=load("exp", judge.NODE.sections), run=NullRun()))
    return dict(read_json(paths.metrics("exp", "judge"))["cards"])
