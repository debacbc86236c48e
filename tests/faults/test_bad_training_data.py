"""Formatted prompts and preference pairs that are broken, or that do not fit the parameters or the model."""

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


def infinite() -> None:
    """Write a number that no float can hold, which JSON allows."""
    text = PAIRS.read_text(encoding="utf-8")
    PAIRS.write_text(text.replace('"rejected_toxicity": 1.0', '"rejected_toxicity": 1e999', 1), encoding="utf-8")


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
        ("ppo.prompts_per_step", "32", "64"),
    ),
]

PREFERENCE_PAIRS = [
    Fault("no pairs", removed(PAIRS), SFT, (str(PAIRS),)),
    Fault("pairs that are a folder", folder_instead(PAIRS), DPO, (str(PAIRS),)),
    Fault("pairs of no rows", written(PAIRS, ""), DPO, (str(PAIRS), "preferences.margin")),
    Fault("half a pair", cut(PAIRS, 0.99), SFT, (f"{PAIRS}:28",)),
    Fault("pair that is no JSON", line(PAIRS, 5, "chosen"), DPO, (f"{PAIRS}:5",)),
    Fault("pair that is a list", line(PAIRS, 5, "[1]"), SFT, (f"{PAIRS}:5",)),
    Fault("empty line among pairs", line(PAIRS, 2, ""), DPO, (f"{PAIRS}:2",)),
    Fault("key there twice", line(PAIRS, 1, '{"chosen": "a", "chosen": "b"}'), SFT, (f"{PAIRS}:1", "twice")),
    Fault("pair without a key", rows(PAIRS, changed(1, rejected_ids=...)), SFT, (f"{PAIRS}:1", "rejected_ids")),
    Fault("pair with a key more", rows(PAIRS, changed(2, goose=0)), DPO, (f"{PAIRS}:2", "goose")),
    Fault("pair in bytes that are no text", line(PAIRS, 3, b"\xff\xff"), SFT, (str(PAIRS), "UTF-8")),
    Fault("pair with half of a character", line(PAIRS, 3, '{"chosen": "\\udc00"}'), SFT, (f"{PAIRS}:3", "surrogate")),
    Fault("pair nested too deep", line(PAIRS, 3, "[" * 200_000), DPO, (f"{PAIRS}:3",)),
    Fault("ids that are a text", rows(PAIRS, changed(4, chosen_ids="5 6")), SFT, (f"{PAIRS}:4", "chosen_ids")),
    Fault(
        "ids that are numbers in words",
        rows(PAIRS, changed(4, chosen_ids=["5", "6"])),
        DPO,
        (f"{PAIRS}:4", "chosen_ids"),
    ),
    Fault("ids that are floats", rows(PAIRS, changed(4, rejected_ids=[5.0])), DPO, (f"{PAIRS}:4", "rejected_ids")),
    Fault(
        "ids that are booleans", rows(PAIRS, changed(6, chosen_ids=[True, False])), SFT, (f"{PAIRS}:6", "chosen_ids")
    ),
    Fault("ids that are nested", rows(PAIRS, changed(6, prompt_ids=[[1, 2]])), DPO, (f"{PAIRS}:6", "prompt_ids")),
    Fault(
        "ids beyond the vocabulary",
        rows(PAIRS, changed(7, chosen_ids=[12, 257])),
        SFT,
        (f"{PAIRS}:7", "chosen_ids", "257"),
    ),
    Fault(
        "prompt ids beyond the vocabulary",
        rows(PAIRS, changed(7, prompt_ids=[49152])),
        DPO,
        (f"{PAIRS}:7", "prompt_ids", "49152"),
    ),
    Fault("ids beyond 64 bits", rows(PAIRS, changed(8, rejected_ids=[2**70])), DPO, (f"{PAIRS}:8", "rejected_ids")),
    Fault("id of 5000 digits", line(PAIRS, 8, '{"chosen_ids": [' + "9" * 5000 + "]}"), SFT, (f"{PAIRS}:8",)),
    Fault("negative ids", rows(PAIRS, changed(9, rejected_ids=[3, -1])), DPO, (f"{PAIRS}:9", "rejected_ids", "-1")),
    Fault(
        "ids of what is not counted",
        rows(PAIRS, changed(9, chosen_ids=[-100, -100])),
        SFT,
        (f"{PAIRS}:9", "chosen_ids", "-100"),
    ),
    Fault("no prompt ids", rows(PAIRS, changed(10, prompt_ids=[])), SFT, (f"{PAIRS}:10", "prompt_ids")),
    Fault("empty completion", rows(PAIRS, changed(11, chosen="", chosen_ids=[])), SFT, (f"{PAIRS}:11", "chosen_ids")),
    Fault("empty rejected completion", rows(PAIRS, changed(11, rejected_ids=[])), DPO, (f"{PAIRS}:11", "rejected_ids")),
    Fault(
        "chosen that is rejected too",
        rows(PAIRS, lambda found: found[0].update(rejected_ids=found[0]["chosen_ids"])),
        DPO,
        (f"{PAIRS}:1", "rejected_ids"),
    ),
    Fault("pair longer than the context", rows(PAIRS, changed(12, chosen_ids=[7] * 128)), SFT, (f"{PAIRS}:12", "128")),
    Fault(
        "prompt of a pair longer than the context",
        rows(PAIRS, changed(12, prompt_ids=[7] * 300)),
        DPO,
        (f"{PAIRS}:12", "128"),
    ),
    Fault("same pair twice", rows(PAIRS, again(2)), SFT, (f"{PAIRS}:29", "line 2")),
    Fault(
        "toxicity that is a text",
        rows(PAIRS, changed(3, rejected_toxicity="high")),
        DPO,
        (f"{PAIRS}:3", "rejected_toxicity"),
    ),
    Fault("toxicity that is no number", line(PAIRS, 3, '{"chosen_toxicity": NaN}'), DPO, (f"{PAIRS}:3", "NaN")),
    Fault("toxicity that is infinite", infinite, DPO, (f"{PAIRS}:1", "rejected_toxicity")),
    Fault("toxicity above 1", rows(PAIRS, changed(3, rejected_toxicity=1.5)), SFT, (f"{PAIRS}:3", "rejected_toxicity")),
    Fault("prompt id that is a number", rows(PAIRS, changed(3, prompt_id=3)), SFT, (f"{PAIRS}:3", "prompt_id")),
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


@pytest.mark.parametrize("fault", cases([*PROMPTS, *PREFERENCE_PAIRS]))
def test_it_is_refused(fault: Fault, workplace: Path) -> None:
    fault.broken()
    refused(*fault.arguments, names=fault.names)
