"""Formatted prompts and scored samples that are broken, or that do not fit the parameters or the model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.schema import content_id
from tests.faults.breaking import (
    COMPLETE,
    DPO,
    PPO,
    PREFERENCES,
    REFERENCE,
    SFT,
    Fault,
    Rows,
    again,
    both,
    cases,
    changed,
    cut,
    folder_instead,
    line,
    parameter,
    removed,
    rows,
    written,
)
from tests.faults.conftest import refused

TRAIN, DEV, EVAL = (Path(f"data/smoke/formatted/{split}.jsonl") for split in ("train", "dev", "eval"))
PAIRS = Path("data/smoke/preferences/0.jsonl")
TOKENIZER = Path("models/smoke/base/tokenizer.json")


def with_prompt(number: int, prompt: str) -> Callable[[Rows], None]:
    """Give one row another prompt, and the id that is right for it."""
    return changed(number, prompt=prompt, id=content_id(prompt))


def prompts_without_tokens() -> None:
    """Let the tokenizer drop every character."""
    normalizer = {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    TOKENIZER.write_text(json.dumps(json.loads(TOKENIZER.read_text()) | {"normalizer": normalizer}))


PROMPTS = [
    Fault("no prompts of a split", removed(DEV), REFERENCE, (str(DEV),)),
    Fault("prompts that are a folder", folder_instead(TRAIN), PREFERENCES, (str(TRAIN),)),
    Fault("dev prompts that are missed after a training", removed(DEV), SFT, (str(DEV),)),
    Fault("dev prompts that are broken after a training", line(DEV, 1, "{"), PPO, (f"{DEV}:1",)),
    Fault("empty split", written(EVAL, ""), COMPLETE, (str(EVAL), "no prompts")),
    Fault("empty dev split", written(DEV, ""), REFERENCE, (str(DEV), "no prompts")),
    Fault("empty train split", written(TRAIN, ""), PPO, (str(TRAIN), "no prompts")),
    Fault("split of one empty line", written(TRAIN, "\n"), PREFERENCES, (f"{TRAIN}:1",)),
    Fault("half a row", cut(TRAIN, 0.97), PPO, (f"{TRAIN}:32",)),
    Fault("row that is no JSON", line(DEV, 2, "prompt: no"), REFERENCE, (f"{DEV}:2",)),
    Fault("row that is a list", line(EVAL, 3, "[]"), COMPLETE, (f"{EVAL}:3",)),
    Fault("row that is a text", line(EVAL, 3, '"prompt"'), COMPLETE, (f"{EVAL}:3",)),
    Fault("two rows in a line", line(TRAIN, 1, "{} {}"), PREFERENCES, (f"{TRAIN}:1",)),
    Fault("empty line in the middle", line(TRAIN, 7, ""), PPO, (f"{TRAIN}:7",)),
    Fault("row without a key", rows(DEV, changed(1, id=...)), REFERENCE, (f"{DEV}:1", "id: missing")),
    Fault("row without a prompt", rows(EVAL, changed(4, prompt=...)), COMPLETE, (f"{EVAL}:4", "prompt: missing")),
    Fault("row with a key more", rows(TRAIN, changed(4, goose=1)), PPO, (f"{TRAIN}:4", "goose")),
    Fault("prompt that is a number", rows(TRAIN, changed(5, prompt=7)), PREFERENCES, (f"{TRAIN}:5", "prompt")),
    Fault("prompt that is null", rows(DEV, changed(3, prompt=None)), REFERENCE, (f"{DEV}:3", "prompt")),
    Fault("prompt of whitespace", rows(EVAL, with_prompt(1, " \t ")), COMPLETE, (f"{EVAL}:1", "prompt")),
    Fault("id of another prompt", rows(EVAL, changed(2, id="0" * 16)), COMPLETE, (f"{EVAL}:2", "id")),
    Fault("id that is a number", rows(EVAL, changed(2, id=5)), COMPLETE, (f"{EVAL}:2", "id")),
    Fault("prompt there twice", rows(TRAIN, again(3)), PPO, (f"{TRAIN}:33", "line 3")),
    Fault("evaluation prompt there twice", rows(EVAL, again(1)), COMPLETE, (f"{EVAL}:13", "line 1")),
    Fault("dev prompt there twice", rows(DEV, again(4)), REFERENCE, (f"{DEV}:5", "line 4")),
    Fault("split in Latin-1", line(DEV, 1, b'{"prompt": "na\xefve"}'), REFERENCE, (str(DEV), "UTF-8")),
    Fault("split in UTF-16", lambda: EVAL.write_bytes(EVAL.read_text().encode("utf-16")), COMPLETE, (str(EVAL),)),
    Fault("half of a character", line(TRAIN, 2, b'{"prompt": "\\ud83d"}'), PREFERENCES, (f"{TRAIN}:2",)),
    Fault("NaN in a row", line(TRAIN, 2, '{"prompt": NaN}'), PREFERENCES, (f"{TRAIN}:2", "NaN")),
    Fault("row nested too deep", line(EVAL, 1, '{"a":' * 100_000), COMPLETE, (f"{EVAL}:1",)),
    Fault("gigantic line", rows(TRAIN, with_prompt(1, "honk " * 400_000)), PPO, (f"{TRAIN}:1",)),
    Fault(
        "longer than a prompt may be",
        rows(DEV, with_prompt(2, "goose " * 30)),
        REFERENCE,
        (f"{DEV}:2", "max_prompt_tokens"),
    ),
    Fault(
        "longer than the context",
        both(rows(EVAL, with_prompt(2, "goose " * 21)), parameter("model", max_prompt_tokens=500)),
        COMPLETE,
        ("prompt ", "128 tokens", "max_new_tokens"),
    ),
    Fault("no room for a rollout", parameter("ppo", max_new_tokens=120), PPO, ("128 tokens", "max_new_tokens")),
    Fault(
        "no room for a sample",
        parameter("preferences", max_new_tokens=200),
        PREFERENCES,
        ("128 tokens", "max_new_tokens"),
    ),
    Fault(
        "no room on the dev prompts", parameter("dev", max_new_tokens=500), REFERENCE, ("128 tokens", "max_new_tokens")
    ),
    Fault("prompt of no tokens", prompts_without_tokens, COMPLETE, (f"{EVAL}:1", "0 tokens")),
    Fault(
        "fewer prompts than a step takes",
        parameter("ppo", prompts_per_step=64),
        PPO,
        ("methods.ppo.prompts_per_step", "32", "64"),
    ),
]

SAMPLES = [
    Fault("no samples", removed(PAIRS), SFT, (str(PAIRS),)),
    Fault("samples that are a folder", folder_instead(PAIRS), DPO, (str(PAIRS),)),
    Fault("half of the samples of a prompt", cut(PAIRS, 0.99), SFT, (f"{PAIRS}:32",)),
    Fault("line that is no JSON", line(PAIRS, 5, "chosen"), DPO, (f"{PAIRS}:5",)),
    Fault("line in bytes that are no text", line(PAIRS, 3, b"\xff\xff"), SFT, (str(PAIRS), "UTF-8")),
    Fault("samples without a key", rows(PAIRS, changed(1, prompt_ids=...)), SFT, (f"{PAIRS}:1", "scored samples")),
    Fault("pair of no sample", rows(PAIRS, changed(2, pairs=[[0, 9]])), DPO, (f"{PAIRS}:2", "scored samples")),
    Fault(
        "margin that gives no pair",
        both(
            parameter("preferences", margin=1.0),
            parameter("reward", scorer={"kind": "keyword", "keywords": ["aeiou"], "saturation": 50}),
        ),
        PREFERENCES,
        ("preferences.margin", "1.0"),
    ),
]


@pytest.mark.parametrize("fault", cases([*PROMPTS, *SAMPLES]))
def test_it_is_refused(fault: Fault, workplace: Path) -> None:
    fault.broken()
    refused(*fault.arguments, names=fault.names)
