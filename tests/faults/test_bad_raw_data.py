"""Downloaded rows of prompts that are broken: `format` makes no splits of them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.breaking import Break, Fault, both, cases, folder_instead, line, parameter, removed, written
from tests.faults.conftest import outputs, refused, run

PROMPTS = Path("data/smoke/raw/prompts/prompts.jsonl")
MORE = PROMPTS.with_name("more.jsonl")
FILE, FIRST, PLACE, LAST = str(PROMPTS), f"{PROMPTS}:1: ", f"{PROMPTS}:2: ", f"{PROMPTS}:50: "
FORMAT = "format smoke"


def instead(make: Callable[[Path], object]) -> Break:
    """Put something else in the place of the file of prompts."""

    def change() -> None:
        PROMPTS.unlink()
        make(PROMPTS)

    return change


def linked(target: str) -> Break:
    return instead(lambda path: path.symlink_to(target))


def edited(change: Callable[[bytes], bytes]) -> Break:
    return lambda: PROMPTS.write_bytes(change(PROMPTS.read_bytes()))


def recoded(encoding: str) -> Break:
    return edited(lambda data: data.decode().encode(encoding))


def content(text: str | bytes) -> Break:
    return written(PROMPTS, text)


def prompts(*texts: str) -> Break:
    return content("".join(json.dumps({"prompt": text}) + "\n" for text in texts))


def row(**values: Any) -> str:
    """Return a row that would be sound with the prompt alone."""
    return json.dumps({"prompt": "The captain said"} | values)


def fault(name: str, broken: Break, *names: str) -> Fault:
    return Fault(name, broken, FORMAT, names)


FILES = [
    fault("absent", removed(PROMPTS), "data/smoke/raw/prompts", "found none", "data.sources.prompts"),
    fault("all_absent", lambda: shutil.rmtree("data/smoke/raw"), "data/smoke/raw/prompts", "found none"),
    fault("other_ending", lambda: PROMPTS.rename(PROMPTS.with_suffix(".json")), "expected .jsonl files, found none"),
    fault("folder", folder_instead(PROMPTS), FILE, "a folder"),
    fault("file_as_folder", both(removed(PROMPTS), PROMPTS.parent.rmdir, written(PROMPTS.parent, "")), "found none"),
    fault("link_to_nowhere", linked("gone.jsonl"), FILE, "not found"),
    fault("link_to_itself", linked("prompts.jsonl"), FILE, "cannot be read"),
    fault("link_to_zeros", linked("/dev/zero"), FILE, "a pipe or a device"),
    fault("pipe", instead(os.mkfifo), FILE, "a pipe or a device"),
    fault("empty", content(b""), FILE, "found none"),
    fault("blank_line", content(b"\n"), FIRST, "an empty line"),
    fault("blank_line_at_the_end", edited(lambda data: data + b"\n"), LAST, "an empty line"),
    fault("second_file_empty", written(MORE, b""), f"{MORE}: ", "found none"),
    fault("second_file_broken", written(MORE, b"{"), f"{MORE}:1: "),
    fault("comment", content(b"# rows follow\n"), FIRST, "one JSON object a line"),
    fault("array_over_lines", content('[\n{"prompt": "x"}\n]\n'), FIRST, "Expecting value"),
    fault("object_over_lines", content('{\n"prompt": "x"\n}\n'), FIRST, "Expecting property name"),
    fault("cut_in_a_character", edited(lambda data: data + b'{"prompt": "caf\xc3'), FILE, "0xc3 in line 50"),
    fault("utf_16", recoded("utf-16"), FILE, "UTF-8", "0xff in line 1"),
    fault("utf_16_without_mark", recoded("utf-16-le"), FIRST, "one JSON object a line"),
    fault("utf_32", recoded("utf-32"), FILE, "UTF-8", "0xff in line 1"),
    fault("byte_order_mark", recoded("utf-8-sig"), FILE, "byte order mark"),
    fault("byte_order_mark_inside", edited(lambda data: data + b"\xef\xbb\xbf{}\n"), LAST, "BOM"),
    fault("compressed", content(b"\x1f\x8b\x08\x00" + bytes(40)), FILE, "UTF-8", "0x8b in line 1"),
    fault("zeros", content(bytes(4096)), FIRST, "one JSON object a line"),
    fault("zeros_at_the_end", edited(lambda data: data + bytes(512)), LAST, "one JSON object a line"),
    fault("one_endless_line", content(b"x" * 20 * 2**20), FIRST, "16,777,216"),
    fault("one_prompt", prompts("One prompt alone"), "split is empty (1 different prompts)", "data.eval_fraction"),
    fault("one_prompt_often", prompts(*["Again and again"] * 100), "split is empty (1 different prompts)"),
    fault("one_prompt_respelled", prompts(*[f"Again{' ' * n}AND again" for n in range(1, 50)]), "(1 different"),
    fault("no_room_for_eval", parameter("data", eval_fraction=1.0e-9), "eval split is empty", "data.eval_fraction"),
    fault("no_room_for_dev", parameter("data", dev_fraction=1.0e-9), "dev split is empty", "data.dev_fraction"),
    fault("no_room_for_train", parameter("data", eval_fraction=0.5, dev_fraction=0.499999), "train split is empty"),
]
ROWS: list[tuple[str, str | bytes, str]] = [  # the second row, and what is said beside file and line
    ("blank", "", "an empty line"),
    ("spaces", "  \t", "an empty line"),
    ("no_json", "The captain said", "one JSON object a line"),
    ("cut", '{"prompt": "The cap', "Unterminated string"),
    ("python_quotes", "{'prompt': 'x'}", "double quotes"),
    ("two_objects", '{"prompt": "x"} {"prompt": "y"}', "Extra data: column 17"),
    ("array", '["The captain said"]', "expected a JSON object, got list"),
    ("string", '"The captain said"', "expected a JSON object, got str"),
    ("number", "7", "expected a JSON object, got int"),
    ("null", "null", "expected a JSON object, got NoneType"),
    ("key_twice", '{"prompt": "x", "prompt": "y"}', "twice"),
    ("lists_without_end", '{"prompt": ' + "[" * 10**5, "recursion"),
    ("ten_thousand_digits", '{"prompt": ' + "9" * 10**4 + "}", "digits"),
    ("raw_control_character", '{"prompt": "a\x07b"}', "control character"),
    ("17_megabytes", '{"prompt": "' + "x" * 17 * 2**20 + '"}', "16,777,216"),
    ("empty_object", "{}", "prompt: missing"),
    ("other_key", '{"text": "x"}', "prompt: missing; text: unknown key, expected prompt, categories"),
    ("key_in_capitals", '{"Prompt": "x"}', "prompt: missing; Prompt: unknown key"),
    ("thousand_unknown_keys", row(**{f"key{n}": n for n in range(1000)}), "key0: unknown key"),
    ("key_of_a_megabyte", row(**{"k" * 10**6: 1}), "kkk…: unknown key"),
    ("newline_in_key", row(**{"a\nformat: b": 1}), r"a\nformat: b: unknown key"),
    ("half_a_pair_in_a_key", '{"prompt": "x", "\\udc00": 1}', "half of a surrogate pair"),
    ("id_given", row(id="0"), "id: unknown key"),
    ("prompt_null", row(prompt=None), "prompt: expected a string, got NoneType"),
    ("prompt_number", row(prompt=7), "prompt: expected a string, got int"),
    ("prompt_true", row(prompt=True), "prompt: expected a string, got bool"),
    ("prompt_nan", '{"prompt": NaN}', "NaN, which is no JSON"),
    ("prompt_infinite", '{"prompt": -Infinity}', "-Infinity, which is no JSON"),
    ("prompt_list", row(prompt=["x"]), "prompt: expected a string, got list of str"),
    ("prompt_object", row(prompt={"text": "x"}), "prompt: expected a string, got dict"),
    ("prompt_empty", row(prompt=""), "prompt: expected text, got only whitespace"),
    ("prompt_of_spaces", row(prompt=" \t\n\u3000"), "prompt: expected text, got only whitespace"),
    ("prompt_of_controls", row(prompt="\x01\x02\x7f"), "prompt: expected text, got no visible character"),
    ("prompt_of_zero_width", row(prompt="\u200b\u2060\ufeff"), "no visible character"),
    ("prompt_of_private_use", row(prompt="\ue000"), "no visible character"),
    ("prompt_with_nul", row(prompt="The\0captain"), "prompt: expected text, got a NUL character"),
    ("prompt_with_half_a_pair", '{"prompt": "a \\ud83d"}', "half of a surrogate pair"),
    ("prompt_with_the_other_half", '{"prompt": "\\uDE00 b"}', "half of a surrogate pair"),
    ("prompt_of_a_megabyte", row(prompt="word " * 2 * 10**5), "prompt: expected text, got 1,000,000 characters"),
    ("categories_string", row(categories="insult"), "categories: expected a list of strings, got str"),
    ("categories_null", row(categories=None), "categories: expected a list of strings, got NoneType"),
    ("categories_nan", '{"prompt": "x", "categories": NaN}', "NaN, which is no JSON"),
    ("categories_with_nan", '{"prompt": "x", "categories": ["a", NaN]}', "NaN, which is no JSON"),
    ("categories_numbers", row(categories=["insult", 1]), "got list of int, str"),
    ("categories_nested", row(categories=[["insult"]]), "got list of list"),
    ("category_empty", row(categories=[""]), "categories: expected text, got only whitespace"),
    ("category_with_nul", row(categories=["a\0"]), "categories: expected text, got a NUL"),
    ("category_endless", row(categories=["c" * 10**6]), "categories: expected text, got 1,000,000 characters"),
    ("chosen_number", row(chosen=1), "chosen: expected a string or null, got int"),
    ("rejected_list", row(rejected=["x"]), "rejected: expected a string or null, got list of str"),
    ("rejected_with_nul", row(rejected="\0"), "rejected: expected text, got a NUL"),
    ("demonstrations_string", row(demonstrations="x"), "demonstrations: expected a list of strings, got str"),
    ("demonstration_of_controls", row(demonstrations=["\x01"]), "demonstrations: expected text, got no visible"),
    ("latin_1", b'{"prompt": "caf\xe9"}', "UTF-8 text, got the byte 0xe9 in line 2"),
    ("surrogate_in_utf8", b'{"prompt": "\xed\xa0\x80"}', "UTF-8 text, got the byte 0xed in line 2"),
    ("overlong_utf8", b'{"prompt": "\xc0\xaf"}', "UTF-8 text, got the byte 0xc0 in line 2"),
]


@pytest.mark.parametrize("fault", cases(FILES))
def test_broken_files_make_no_splits(workplace, fault):
    fault.broken()
    refused(*fault.arguments, names=fault.names)


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS])
def test_a_broken_row_makes_no_splits(workplace, text, said):
    line(PROMPTS, 2, text)()
    message = refused(*FORMAT.split(), names=(FILE, said))
    assert PLACE in message or "in line 2" in message
    assert "captain" not in message, "a message shows nothing of a prompt"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(workplace):
    PROMPTS.chmod(0)
    refused(*FORMAT.split(), names=(FILE, "Permission denied"))


def test_what_only_looks_broken_is_formatted(workplace):
    texts = [
        "\u202eright to left",
        "emoji \U0001f9a2",
        "e\u0301",
        "a\u2028b",
        "tab\there",
        "{term}",
        "\\ud800",
        "'; --",
    ]
    with PROMPTS.open("a", encoding="utf-8", newline="\r\n") as file:
        file.writelines(json.dumps({"prompt": text}) + "\n" for text in texts)
    assert run(*FORMAT.split()).code == 0
    splits = [Path(f"data/smoke/formatted/{name}.jsonl").read_text("utf-8") for name in ("train", "dev", "eval")]
    found = {json.loads(text)["prompt"] for split in splits for text in split.split("\n") if text}
    assert found >= set(texts)


def test_the_remedy_works(workplace):
    before, sound = outputs(), PROMPTS.read_bytes()
    line(PROMPTS, 2, "{")()
    refused(*FORMAT.split(), names=(PLACE,))
    PROMPTS.write_bytes(sound)
    assert run(*FORMAT.split()).code == 0 and outputs() == before
