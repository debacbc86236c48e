"""Broken completions, scores, probes and judge cards: each is refused by name, and nothing is written."""

from pathlib import Path

import pytest
import yaml

from tests.faults.conftest import outputs, refused, run
from tests.faults.damage import (
    INFINITY,
    NAN,
    Damage,
    content,
    cut,
    encoded,
    every_row,
    folder,
    gone,
    key,
    line,
    no_key,
    read_rows,
    row,
    rows,
    without,
    write_rows,
)
from tests.smoke import workspace

SFT = "smoke/0/sft.jsonl"
COMPLETIONS, SCORES, PROBES = f"completions/{SFT}", f"scores/{SFT}", f"probes/{SFT}"
CARDS = "metrics/smoke/judge.json"
DIGEST = "0" * 64
Case = tuple[str, Damage, tuple[str, ...]]  # id, what is done to the file, what the message names beside the file

BROKEN_FILES: list[Case] = [
    ("absent", gone, ("not found",)),
    ("folder", folder, ("expected",)),
    ("cut", cut, ()),
    ("no-json", line("{not json"), (":2:",)),
    ("list", line("[1, 2]"), (":2:", "list")),
    ("null", line("null"), (":2:",)),
    ("number", line("7"), (":2:",)),
    ("blank-line", line(""), (":2:",)),
    ("two-rows-on-a-line", line("{} {}"), (":2:",)),
    ("utf-16", encoded("utf-16"), ("UTF-8",)),
    ("latin-1", content('{"prompt_id": "é"}\n'.encode("latin-1")), ("UTF-8",)),
    ("byte-order-mark", encoded("utf-8-sig"), ("byte order mark",)),
    ("nul-bytes", content(b"\0" * 64), (":1:",)),
    ("deeply-nested", line("[" * 100_000), (":2:",)),
    ("gigantic-number", line('{"sample": ' + "9" * 5_000 + "}"), (":2:",)),
    ("gigantic-line", line('{"prompt_id": "' + "a" * 17 * 2**20 + '"}'), (":2:",)),
    ("key-twice", line('{"sample": 1, "sample": 2}'), (":2:", "twice")),
]

BAD_COMPLETIONS: list[Case] = [
    ("empty", content(b""), ("at least one completion",)),
    *((f"without-{name}", without(name), (":2:", name)) for name in (
        "prompt_id", "sample", "prompt", "categories", "completion", "token_ids", "finished", "logprobs"
    )),
    ("prompt-id-number", row(prompt_id=5), (":2:", "prompt_id")),
    ("sample-text", row(sample="0"), (":2:", "sample")),
    ("sample-negative", row(sample=-1), (":2:", "sample")),
    ("sample-fraction", row(sample=0.5), (":2:", "sample")),
    ("sample-truth", row(sample=True), (":2:", "sample")),
    ("completion-null", row(completion=None), (":2:", "completion")),
    ("completion-lone-surrogate", row(completion="\ud800"), (":2:", "completion")),
    ("categories-null", row(categories=None), (":2:", "categories")),
    ("categories-numbers", row(categories=[1]), (":2:", "categories")),
    ("tokens-text", row(token_ids="1 2"), (":2:", "token_ids")),
    ("tokens-fractions", row(token_ids=[1.5]), (":2:", "token_ids")),
    ("tokens-negative", row(token_ids=[3, -7]), (":2:", "token_ids")),
    ("finished-text", row(finished="yes"), (":2:", "finished")),
    ("finished-without-a-token", row(finished=True, token_ids=[]), (":2:", "token_ids")),
    ("logprobs-number", row(logprobs=-3.0), (":2:", "logprobs")),
    ("logprob-nan", row(logprobs__policy=NAN), (":2:", "NaN")),
    ("logprob-infinite", row(logprobs__base=-INFINITY), (":2:", "Infinity")),
    ("logprob-positive", row(logprobs__policy=3.0), (":2:", "logprobs.policy")),
    ("logprob-missing", row(logprobs={"policy": -1.0, "base": -1.0}), (":2:", "logprobs.reference")),
    ("twice", rows(lambda found: [*found, found[0]]), ("sample 0", "second time")),
]  # fmt: skip

# What one file alone cannot show: that it is of this evaluation.
FOREIGN_COMPLETIONS: list[Case] = [
    ("lacks-a-sample", rows(lambda found: found[:-1]), ("lacks", "sample 3")),
    ("lacks-a-prompt", rows(lambda found: found[4:]), ("lacks",)),
    ("sample-too-many", rows(lambda found: [*found, {**found[-1], "sample": 4}]), ("holds", "sample 4")),
    ("unknown-prompt", row(prompt_id="0123456789abcdef"), ("0123456789abcdef",)),
    ("other-prompt", row(prompt="Another text"), (": prompt:", "sample 1")),
    ("other-categories", row(categories=["elsewhere"]), ("categories", "sample 1")),
    ("not-analyzed", row(logprobs=None), ("logprobs", "sample 1")),
    ("longer-than-decoding-allows", row(token_ids=[5] * 13), ("token_ids", "complete.max_new_tokens", "12")),
]

BAD_SCORES: list[Case] = [
    ("empty", content(b""), ("lacks", "sample 0")),
    *((f"without-{name}", without(name), (":2:", name)) for name in (
        "prompt_id", "sample", "judge", "judge_sha256", "toxicity"
    )),
    ("nan", row(toxicity=NAN), (":2:", "NaN")),
    ("infinite", row(toxicity=INFINITY), (":2:", "Infinity")),
    ("above-1", row(toxicity=1.5), (":2:", "toxicity")),
    ("below-0", row(toxicity=-0.25), (":2:", "toxicity")),
    ("text", row(toxicity="0.5"), (":2:", "toxicity")),
    ("truth", row(toxicity=True), (":2:", "toxicity")),
    ("sample-negative", row(sample=-1), (":2:", "sample")),
    ("digest-of-no-form", row(judge_sha256="abc"), (":2:", "judge_sha256")),
    ("unknown-judge", row(judge="nobody"), (":2:", "judge", "nobody")),
    ("unknown-judge-of-any-length", row(judge="n" * 5_000), (":2:", "judge")),
    ("another-version-in-a-row", row(judge_sha256=DIGEST), (":2:", "judge_sha256", DIGEST)),
    ("another-version-in-a-file", every_row(judge_sha256=DIGEST), ("judge_sha256", DIGEST)),
    ("lacks-a-judge", rows(lambda found: [item for item in found if item["judge"] != "letter"]), ("letter", "lacks")),
    ("lacks-a-row", rows(lambda found: found[1:]), ("lacks", "sample 0", "consonants")),
    ("row-too-many", rows(lambda found: [*found, {**found[0], "sample": 9}]), ("holds", "sample 9")),
    ("twice", rows(lambda found: [*found, found[0]]), ("second time", "sample 0")),
    ("of-other-completions", every_row(prompt_id="0123456789abcdef"), ("second time", "0123456789abcdef")),
    ("unknown-prompt", row(prompt_id="0123456789abcdef"), ("0123456789abcdef",)),
    ("all-missing", every_row(toxicity=None), ("score.max_missing_rate", "consonants")),
    ("too-many-missing", row(toxicity=None), ("score.max_missing_rate", "consonants")),
]  # fmt: skip

BAD_PROBES: list[Case] = [
    ("empty", content(b""), ("lacks", "choice 0")),
    *((f"without-{name}", without(name), (":2:", name)) for name in (
        "probe", "item", "choice", "label", "tokens", "bytes", "logprob"
    )),
    ("logprob-nan", row(logprob=NAN), (":2:", "NaN")),
    ("logprob-infinite", row(logprob=-INFINITY), (":2:", "Infinity")),
    ("logprob-positive", row(logprob=0.5), (":2:", "logprob")),
    ("logprob-text", row(logprob="-3"), (":2:", "logprob")),
    ("tokens-none", row(tokens=0), (":2:", "tokens")),
    ("bytes-fraction", row(bytes=1.5), (":2:", "bytes")),
    ("item-of-no-form", row(item="first"), (":2:", "item")),
    ("choice-negative", row(choice=-1), (":2:", "choice")),
    ("twice", rows(lambda found: [*found, found[0]]), ("second time", "choice 0")),
    ("other-task", row(probe="cooking"), ("lacks", "chores", "cooking")),
    ("lacks-a-choice", rows(lambda found: [found[0], *found[2:]]), ("choice 1",)),
    ("lacks-identity", rows(lambda found: [item for item in found if item["probe"] != "identity"]), ("identity",)),
    ("choice-that-is-none", row(choice=5), ("choice",)),
    ("label-that-is-no-choice", row(label=7), ("label",)),
    ("of-other-texts", row(bytes=999), ("bytes",)),
]  # fmt: skip

BAD_CARDS: list[Case] = [
    ("absent", gone, ("not found",)),
    ("folder", folder, ("expected",)),
    ("empty", content(b""), ("JSON",)),
    ("cut", cut, ("JSON",)),
    ("list", content(b"[]"), ("list",)),
    ("utf-16", encoded("utf-16"), ("UTF-8",)),
    ("no-cards", content(b"{}"), ("cards",)),
    ("cards-list", key("cards", to=[]), ("cards",)),
    ("no-card", no_key("cards", "vowels"), ("cards.vowels",)),
    ("card-text", key("cards", "vowels", to="good"), ("cards.vowels",)),
    ("no-fingerprint", no_key("cards", "vowels", "fingerprint"), ("cards.vowels.fingerprint",)),
    ("fingerprint-number", key("cards", "vowels", "fingerprint", to=7), ("cards.vowels.fingerprint",)),
    ("another-version", key("cards", "vowels", "fingerprint", to=DIGEST), ("cards.vowels.fingerprint", DIGEST)),
    ("test-empty", key("cards", "vowels", "test", to={}), ("cards.vowels.test.sensitivity",)),
    ("test-text", key("cards", "vowels", "test", to="passed"), ("cards.vowels.test",)),
    *(
        (f"sensitivity-{name}", key("cards", "vowels", "test", to=test), (f"cards.vowels.test.sensitivity.{where}",))
        for name, where, test in [
            ("nan", "value", {"sensitivity": {"value": NAN, "windows": 9}}),
            ("above-1", "value", {"sensitivity": {"value": 1.5, "windows": 9}}),
            ("of-nothing", "windows", {"sensitivity": {"value": 0.5, "windows": 0}}),
            ("without-windows", "windows", {"sensitivity": {"value": 0.5}}),
        ]
    ),
]


def cases(found: list[Case]) -> list[object]:
    return [pytest.param(damage, named, id=name) for name, damage, named in found]


def broken(path: str, damage: Damage) -> str:
    damage(Path(path))
    return path


@pytest.mark.parametrize("damage, named", cases([*BROKEN_FILES, *BAD_COMPLETIONS]))
def test_broken_completions_are_not_scored(workplace, damage, named):
    refused("score", "smoke", "0", "sft", names=(broken(COMPLETIONS, damage), *named))


@pytest.mark.parametrize("damage, named", cases(FOREIGN_COMPLETIONS))
def test_completions_that_are_not_of_this_evaluation_are_not_evaluated(workplace, damage, named):
    refused("evaluate", "smoke", names=(broken(COMPLETIONS, damage), *named))


@pytest.mark.parametrize("damage, named", cases([*BROKEN_FILES, *BAD_SCORES]))
def test_broken_scores_are_not_evaluated(workplace, damage, named):
    refused("evaluate", "smoke", names=(broken(SCORES, damage), *named))


@pytest.mark.parametrize("damage, named", cases([*BROKEN_FILES, *BAD_PROBES]))
def test_broken_probes_are_not_evaluated(workplace, damage, named):
    refused("evaluate", "smoke", names=(broken(PROBES, damage), *named))


@pytest.mark.parametrize("damage, named", cases(BAD_CARDS))
def test_broken_judge_cards_are_not_evaluated(workplace, damage, named):
    refused("evaluate", "smoke", names=(broken(CARDS, damage), *named))


BAD_SPLITS: list[Case] = [
    ("absent", gone, ("not found",)),
    ("empty", content(b""), ()),
    ("id-of-another-prompt", row(id="0123456789abcdef"), (":2:", "id")),
    ("without-a-prompt", without("prompt"), (":2:", "prompt")),
    ("of-other-prompts", rows(lambda found: found[:-1]), ("completions/smoke/0/",)),
]


@pytest.mark.parametrize("damage, named", cases(BAD_SPLITS))
def test_completions_are_not_evaluated_without_their_prompts(workplace, damage, named):
    refused("evaluate", "smoke", names=(broken("data/smoke/formatted/eval.jsonl", damage), *named))


@pytest.mark.parametrize("seeds, named", [
    ([0, 1], "completions/smoke/1/reference.jsonl: not found"),
    ([7], "completions/smoke/7/reference.jsonl: not found"),
])  # fmt: skip
def test_a_roster_of_what_was_never_run_is_not_evaluated(workplace, seeds, named):
    Path("params.yaml").write_text(yaml.safe_dump(workspace.roster(["smoke"], seeds), sort_keys=False))
    refused("evaluate", "smoke", names=(named,))


def test_scores_of_another_seed_do_not_pass_for_those_of_other_prompts(workplace):
    """The rows of seed 0 with the prompts of another evaluation: the keys tell."""
    Path("params.yaml").write_text(yaml.safe_dump(workspace.roster(["smoke"], [0, 1]), sort_keys=False))
    for kind in ("completions", "scores", "probes"):
        for policy in ("reference", "sft", "ppo", "dpo"):
            copied = Path(kind, "smoke", "1", f"{policy}.jsonl")
            copied.parent.mkdir(exist_ok=True)
            copied.write_bytes(Path(kind, "smoke", "0", copied.name).read_bytes())
    other = Path("scores/smoke/1/ppo.jsonl")
    write_rows(other, [{**item, "prompt_id": item["prompt_id"][::-1]} for item in read_rows(other)])
    refused("evaluate", "smoke", names=(str(other), "lacks", "holds"))


@pytest.mark.parametrize("stage, damaged", [("score smoke 0 sft", COMPLETIONS), ("evaluate smoke", SCORES)])
def test_rows_in_another_order_are_sound_and_change_no_byte(workplace, stage, damaged):
    rows(lambda found: found[::-1])(Path(damaged))
    before = {path: data for path, data in outputs().items() if path != damaged}
    assert run(*stage.split()).code == 0
    assert {path: data for path, data in outputs().items() if path != damaged} == before
