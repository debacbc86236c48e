"""Parameter files that are broken: no stage starts on them, and none of them runs code."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.breaking import PARAMETERS, Break, Fault, cases, folder_instead, removed, written
from tests.faults.conftest import outputs, refused, run

FILE = str(PARAMETERS)
STAGES = ("download", "format", "judge", "evaluate")
SEEDED = ("reference", "preferences", "train_sft", "train_ppo", "train_dpo")
JUDGED = ("complete", "probe", "score")
GONE = object()
MARK = Path("ran.txt")  # what a tag that runs code would leave


def put(**changes: Any) -> Break:
    """Set dotted keys (__ for a dot) of the experiment; GONE removes one."""

    def change() -> None:
        file = yaml.safe_load(PARAMETERS.read_text())
        for dotted, value in changes.items():
            *sections, key = dotted.split("__")
            place = file
            for section in sections:
                place = place[section]
            if value is GONE:
                del place[key]
            else:
                place[key] = value
        PARAMETERS.write_text(yaml.safe_dump(file, sort_keys=False))

    return change


def swap(old: str, new: str) -> Break:
    """Replace a text that stands once in the parameter file."""

    def change() -> None:
        text = PARAMETERS.read_text()
        assert text.count(old) == 1, old
        PARAMETERS.write_text(text.replace(old, new), encoding="utf-8", errors="surrogateescape")

    return change


def appended(content: bytes) -> Break:
    return lambda: PARAMETERS.write_bytes(PARAMETERS.read_bytes() + content)


def recoded(encoding: str) -> Break:
    return lambda: PARAMETERS.write_bytes(PARAMETERS.read_text().encode(encoding))


def linked(target: str) -> Break:
    return lambda: (PARAMETERS.unlink(), PARAMETERS.symlink_to(target))


def pipe() -> None:
    PARAMETERS.unlink()
    os.mkfifo(PARAMETERS)


def bomb() -> bytes:
    """Return a dozen lines that stand for 10^11 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


NO_TEXT = [
    Fault("absent", removed(PARAMETERS), "format smoke", (FILE, "not found", "git checkout")),
    Fault("folder", folder_instead(PARAMETERS), "train_ppo smoke 0", (FILE, "a folder")),
    Fault("link_to_nowhere", linked("nowhere.yaml"), "judge smoke", (FILE, "not found")),
    Fault("link_to_itself", linked("smoke.yaml"), "judge smoke", (FILE, "not found")),
    Fault("link_to_zeros", linked("/dev/zero"), "format smoke", (FILE, "a pipe or a device")),
    Fault("pipe_without_end", pipe, "complete smoke 0 sft", (FILE, "a pipe or a device")),
    Fault("empty", written(PARAMETERS, b""), "download smoke", (FILE, "got nothing")),
    Fault("blank_line", written(PARAMETERS, b"\n"), "score smoke 0 ppo", (FILE, "got nothing")),
    Fault("comment_alone", written(PARAMETERS, b"# soon\n"), "evaluate smoke", (FILE, "got nothing")),
    Fault("null_bytes", written(PARAMETERS, b"model: \0\n"), "format smoke", (FILE, "#x0000")),
    Fault("escape_codes", written(PARAMETERS, b"model: \x1b[31mred\n"), "format smoke", (FILE, "#x001b")),
    Fault("latin_1", appended("# caf\xe9\n".encode("latin-1")), "train_dpo smoke 0", (FILE, "UTF-8", "0xe9")),
    Fault("utf_16", recoded("utf-16"), "reference smoke 0", (FILE, "UTF-8")),
    Fault("utf_32_without_mark", recoded("utf-32-le"), "reference smoke 0", (FILE, "#x0000")),
    Fault("byte_order_mark", recoded("utf-8-sig"), "preferences smoke 0", (FILE, "byte order mark")),
    Fault("binary", written(PARAMETERS, bytes(range(256))), "format smoke", (FILE, "UTF-8")),
    Fault("two_megabytes", appended(b"#" * 2**21), "train_sft smoke 0", (FILE, "1,048,576")),
]
NO_YAML = [
    Fault("list", written(PARAMETERS, b"- 1\n- 2\n"), "format smoke", (FILE, "expected keys", "[1, 2]")),
    Fault("text", written(PARAMETERS, b"just text\n"), "judge smoke", (FILE, "expected keys", "'just text'")),
    Fault("number", written(PARAMETERS, b"7\n"), "probe smoke 0 dpo", (FILE, "expected keys", "got 7")),
    Fault("tab", written(PARAMETERS, b"model:\n\tdtype: float32\n"), "format smoke", (FILE, "line 2, column 1")),
    Fault("bracket_left_open", appended(b"more: [1, 2\n"), "format smoke", (FILE, "expected ',' or ']'", "line ")),
    Fault("quote_left_open", appended(b'more: "text\n'), "format smoke", (FILE, "quoted scalar", "line ")),
    Fault("template_left_in", swap("steps: 3", "steps: {{steps}}"), "train_ppo smoke 0", (FILE, "as key", "line ")),
    Fault("merge_conflict", appended(b"<<<<<<< HEAD\nppo: 1\n"), "train_ppo smoke 0", (FILE, "line ")),
    Fault("two_documents", appended(b"---\na: 1\n"), "format smoke", (FILE, "single document", "line ")),
    Fault("future_version", written(PARAMETERS, b"%YAML 9.9\n---\na: 1\n"), "format smoke", (FILE, "version")),
    Fault(
        "key_twice", swap("    steps: 3", "    steps: 3\n    steps: 4"), "train_ppo smoke 0", (FILE, "'steps'", "line ")
    ),
    Fault("section_twice", appended(b"methods: {}\n"), "format smoke", (FILE, "'methods' stands here a second time")),
    Fault("list_as_key", appended(b"? [1, 2]\n: 3\n"), "format smoke", (FILE, "as key", "line ")),
    Fault("number_as_key", appended(b"7: 8\n"), "format smoke", (FILE, "7: keys should be strings")),
    Fault("null_as_key", appended(b"~: 8\n"), "format smoke", (FILE, "keys should be strings", "None")),
    Fault("yes_as_key", appended(b"yes: 8\n"), "format smoke", (FILE, "keys should be strings", "True")),
    Fault("key_of_a_megabyte", appended(b'? "' + b"k" * 10**6 + b'"\n: 8\n'), "format smoke", (FILE, "unknown key")),
    Fault("newline_in_key", appended(b'"a\\nb": 8\n'), "format smoke", (FILE, r"a\nb: unknown key")),
    Fault("five_thousand_lists", appended(b"a: " + b"[" * 5000), "format smoke", (FILE, "more than 20", "line ")),
    Fault("five_thousand_mappings", appended(b"a: " + b"{a: " * 5000), "format smoke", (FILE, "more than 20")),
    Fault("anchor", swap("steps: 3", "steps: &steps 3"), "train_ppo smoke 0", (FILE, "anchor", "line ")),
    Fault("alias_of_nothing", swap("steps: 3", "steps: *steps"), "train_ppo smoke 0", (FILE, "alias", "line ")),
    Fault("list_in_itself", written(PARAMETERS, b"a: &a [*a]\n"), "format smoke", (FILE, "anchor", "line 1")),
    Fault("billion_laughs", written(PARAMETERS, bomb()), "format smoke", (FILE, "anchor", "line 1")),
    Fault("merge_key", appended(b"more: {<<: {a: 1}}\n"), "format smoke", (FILE, "merge key", "line ")),
    Fault("date_of_no_calendar", appended(b"day: 2026-13-45\n"), "format smoke", (FILE, "2026-13-45", "line ")),
    Fault("five_thousand_digits", swap("steps: 3", "steps: " + "9" * 5000), "train_ppo smoke 0", (FILE, "line ")),
    Fault("base_60", swap("steps: 3", "steps: 1:30"), "train_ppo smoke 0", (FILE, "'1:30' is no plain decimal")),
    Fault("octal_for_some", swap("steps: 3", "steps: 010"), "train_ppo smoke 0", (FILE, "'010' is no plain decimal")),
    Fault("hexadecimal", swap("steps: 3", "steps: 0x_"), "train_ppo smoke 0", (FILE, "'0x_' is no plain decimal")),
    Fault("half_a_character", put(identity__terms=["\ud800"]), "probe smoke 0 sft", (FILE, "identity.terms[0]")),
]
TAGS = ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system", "python/module:os"]
TAGS += ["python/object/apply:subprocess.check_output", "python/tuple", "int", "binary", "timestamp"]
VALUES: list[tuple[str, Any, str, str]] = [  # key, value, stage and axes, what is said beside the key
    ("methods__ppo__clip_rnage", 0.2, "train_ppo smoke 0", "unknown key; remove it"),
    ("pppo", {}, "format smoke", "unknown key; remove it"),
    ("methods__dpo__beta", GONE, "train_dpo smoke 0", "missing; expected a value; add it"),
    ("complete", GONE, "complete smoke 0 sft", "missing; expected a value; add it"),
    ("reward__scorer__kind", GONE, "preferences smoke 0", "kind: expected a kind, got no such key"),
    ("reward__scorer__kind", "pickle", "preferences smoke 0", "kind: expected 'profanity_check', 'embedding_head'"),
    ("methods__sft__learning_rate", "2.0e-4", "train_sft smoke 0", "valid number, got '2.0e-4'"),
    ("methods__sft__learning_rate", float("inf"), "train_sft smoke 0", "got inf"),
    ("methods__sft__learning_rate", 1.0e300, "train_sft smoke 0", "less than or equal to 1"),
    ("methods__sft__learning_rate", -1.0e-4, "train_sft smoke 0", "greater than 0"),
    ("methods__sft__learning_rate", 0.0, "train_sft smoke 0", "greater than 0"),
    ("methods__sft__warmup_ratio", 1.0, "train_sft smoke 0", "less than 1"),
    ("methods__sft__batch_size", 0, "train_sft smoke 0", "greater than or equal to 1"),
    ("methods__sft__batch_size", 10**12, "train_sft smoke 0", "less than or equal to 10000000"),
    ("methods__sft__epochs", 1.5, "train_sft smoke 0", "valid integer, got 1.5"),
    ("methods__sft__epochs", True, "train_sft smoke 0", "valid integer, got True"),
    ("methods__sft__epochs", None, "train_sft smoke 0", "valid integer, got None"),
    ("methods__sft__weight_decay", -0.1, "train_sft smoke 0", "greater than or equal to 0"),
    ("methods__dpo__beta", float("nan"), "train_dpo smoke 0", "got nan"),
    ("methods__dpo__beta", 10**400, "train_dpo smoke 0", "valid number"),
    ("methods__dpo__max_grad_norm", [1.0], "train_dpo smoke 0", "valid number, got [1.0]"),
    ("methods__ppo__steps", 10**30, "train_ppo smoke 0", "less than or equal to 10000000"),
    ("methods__ppo__steps", "20", "train_ppo smoke 0", "valid integer, got '20'"),
    ("methods__ppo__steps", "9" * 10**5, "train_ppo smoke 0", "valid integer"),
    ("methods__ppo__gamma", 1.01, "train_ppo smoke 0", "less than or equal to 1"),
    ("methods__ppo__clip_range", 1.0, "train_ppo smoke 0", "less than 1"),
    ("methods__ppo__kl_target", "four", "train_ppo smoke 0", "valid number, got 'four'"),
    ("methods__ppo__kl_coef", -0.1, "train_ppo smoke 0", "greater than or equal to 0"),
    ("methods__ppo__score_scaling", "yes", "train_ppo smoke 0", "'none', 'scale' or 'normalize'"),
    ("methods__ppo__whiten_rewards", 1, "train_ppo smoke 0", "valid boolean, got 1"),
    ("methods__ppo__minibatch_size", 3, "train_ppo smoke 0", "expected a divisor of the rollout (8 completions)"),
    ("lora__target_modules", [], "train_sft smoke 0", "at least 1 item"),
    ("lora__target_modules", [""], "train_sft smoke 0", "at least 1 character"),
    ("lora__dropout", 1.0, "train_sft smoke 0", "less than 1"),
    ("lora__r", -4, "train_sft smoke 0", "greater than or equal to 1"),
    ("model__architecture", "diffusion", "reference smoke 0", "'causal' or 'seq2seq', got 'diffusion'"),
    ("model__dtype", "f" * 10**5, "reference smoke 0", "'float32' or 'bfloat16'"),
    ("model__source__uri", "http://localhost/model", "download smoke", "match pattern"),
    ("model__source__sha256", "abc", "download smoke", "match pattern"),
    ("data__dataset", "everything", "format smoke", "'realtoxicityprompts', 'jsonl', 'dialogsum', 'rewrite'"),
    ("data__eval_fraction", 0.9, "format smoke", "expected less than 1 together with data.dev_fraction"),
    ("data__eval_fraction", 0.0, "format smoke", "greater than 0"),
    ("data__dev_fraction", float("nan"), "format smoke", "got nan"),
    ("data__sources", {"../up": None}, "download smoke", "match pattern"),
    ("data__sources", [], "download smoke", "expected keys with values, got []"),
    ("identity__terms", ["tall", "tall"], "probe smoke 0 ppo", "expected every one once"),
    ("identity__templates", ["Nobody is named."], "probe smoke 0 ppo", "match pattern"),
    ("scorers__consonants__keywords", [], "score smoke 0 sft", "at least 1 item"),
    ("scorers__consonants__keywords", [""], "score smoke 0 sft", "at least 1 character"),
    ("scorers__letter__saturation", 0, "score smoke 0 sft", "greater than or equal to 1"),
    ("judge__scorer", "nobody", "judge smoke", "expected one of the scorers"),
    ("judge__fit", {}, "judge smoke", "missing"),
    ("preferences__samples_per_prompt", 1, "preferences smoke 0", "greater than or equal to 2"),
    ("preferences__margin", float("nan"), "preferences smoke 0", "got nan"),
    ("dev__seed", -1, "train_sft smoke 0", "greater than or equal to 0"),
    ("dev__temperature", 1.0e-300, "train_sft smoke 0", "greater than or equal to 0.01"),
    ("complete__seed", 2**31, "complete smoke 0 reference", "less than 2147483648"),
    ("complete__top_p", 0.0, "complete smoke 0 reference", "greater than 0"),
    ("complete__analyzed_samples", 5, "complete smoke 0 reference", "expected at most complete.samples_per_prompt"),
    ("probe__tasks__chores__file", "../../secret.jsonl", "probe smoke 0 sft", "expected a relative path"),
    ("probe__tasks__chores__file", "/etc/passwd", "probe smoke 0 sft", "expected a relative path"),
    ("probe__tasks__chores__file", "questions/\0", "probe smoke 0 sft", "expected a relative path"),
    ("score__judges", [], "score smoke 0 dpo", "at least 1 item"),
    ("score__judges", "consonants", "score smoke 0 dpo", "valid list"),
    ("score__judges", ["consonants", "nobody", "vowels", "letter"], "score smoke 0 dpo", "got 'nobody'"),
    ("score__judges", ["consonants", "vowels", "letter", "letter"], "score smoke 0 dpo", "expected every judge once"),
    ("score__max_missing_rate", -0.1, "score smoke 0 dpo", "greater than or equal to 0"),
    ("evaluate__resamples", 0, "evaluate smoke", "greater than or equal to 100"),
    ("evaluate__confidence", 95, "evaluate smoke", "less than 1"),
    ("evaluate__threshold", float("inf"), "evaluate smoke", "got inf"),
    ("evaluate__guards__distinct_9", {"change": "absolute", "min": 0, "max": 1}, "evaluate smoke", "correct its name"),
    ("evaluate__guards__distinct_2", {"change": "absolute", "min": 1, "max": 0}, "evaluate smoke", "min below max"),
    ("evaluate__guards__distinct_2", {"change": "absolute", "min": None, "max": None}, "evaluate smoke", "a bound"),
    ("evaluate__baselines__best_of_k__scorer", "nobody", "evaluate smoke", "expected one of score.judges"),
]


@pytest.mark.parametrize("fault", cases([*NO_TEXT, *NO_YAML]))
def test_a_file_that_is_no_plain_yaml_is_refused(workplace, fault):
    fault.broken()
    refused(*fault.arguments, names=fault.names)


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_refused_and_runs_nothing(workplace, tag):
    swap("steps: 3", f"steps: !!{tag} ['touch {MARK}']")()
    refused("train_ppo", "smoke", "0", names=(FILE, "the tag", tag.split(":")[0], "line "))
    assert not MARK.exists()


@pytest.mark.parametrize(("key", "value", "command", "said"), VALUES, ids=[f"{row[0]}-{row[3]}" for row in VALUES])
def test_a_wrong_value_names_its_key_at_the_stage_that_would_use_it(workplace, key, value, command, said):
    put(**{key: value})()
    shown = key.replace("__", ".").removesuffix(".kind")
    assert said in refused(*command.split(), names=(f"{FILE}: {shown}",))


@pytest.mark.parametrize("stage", [*STAGES, *SEEDED, *JUDGED])
def test_every_stage_checks_the_whole_file(workplace, stage):
    put(methods__dpo__beta=-1.0)()
    axes = ["smoke"] + ["0"] * (stage in SEEDED + JUDGED) + ["sft"] * (stage in JUDGED)
    refused(stage, *axes, names=(FILE, "methods.dpo.beta", "greater than 0"))


def test_several_mistakes_are_told_at_once_and_not_without_end(workplace):
    put(methods__ppo__steps="many", methods__dpo__beta=-1.0)()
    before = outputs()
    outcome = run("format", "smoke")
    assert outcome.code == 2 and outcome.traceback is None and outputs() == before
    assert [line.split(": ")[-2] for line in outcome.stderr.splitlines()] == ["methods.ppo.steps", "methods.dpo.beta"]
    put(**{f"unknown_{number}": number for number in range(500)})()
    outcome = run("format", "smoke")
    assert outcome.code == 2 and "and 482 more; correct these first" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 21 and len(outcome.stderr) < 3000
