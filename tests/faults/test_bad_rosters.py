"""Rosters and command lines that are broken: refused by the stages, and by `roster add`, which then changes nothing."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps import roster
from pipeline.config.roster import load_roster
from tests.faults.conftest import refused, run
from tests.smoke import workspace

PARAMS = Path("params.yaml")
ROSTER = workspace.roster(["smoke"])
ROSTERS: list[tuple[str, Any, tuple[str, ...]]] = [
    ("absent", None, ("not found", "git checkout")),
    ("empty", b"", ("got nothing",)),
    ("broken", b"seeds: [0\n", ("line 2",)),
    ("byte_order_mark", b"\xef\xbb\xbfseeds: [0]\n", ("byte order mark",)),
    ("code", b"seeds: !!python/object/apply:os.getcwd []\n", ("line 1", "tag")),
    ("key_twice", b"seeds: [0]\nseeds: [1]\n", ("'seeds' stands here a second time",)),
    ("unknown_key", ROSTER | {"seed": 1}, ("seed: unknown key",)),
    ("seed_twice", ROSTER | {"seeds": [0, 0]}, ("seeds", "once")),
    ("no_seeds", ROSTER | {"seeds": []}, ("seeds", "at least 1 item")),
    ("one_seed_without_list", ROSTER | {"seeds": 0}, ("seeds", "valid list")),
    ("negative_seed", ROSTER | {"seeds": [-1]}, ("seeds[0]", "greater than or equal to 0")),
    ("seed_of_33_bits", ROSTER | {"seeds": [2**32]}, ("seeds[0]", "less than 2147483648")),
    ("seed_in_quotes", ROSTER | {"seeds": ["0"]}, ("seeds[0]", "valid integer")),
    ("seed_true", ROSTER | {"seeds": [True]}, ("seeds[0]", "valid integer")),
    ("seed_nan", ROSTER | {"seeds": [float("nan")]}, ("seeds[0]",)),
    ("experiment_elsewhere", ROSTER | {"experiments": ["../smoke"]}, ("experiments[0]", "match pattern")),
    ("no_experiments", ROSTER | {"experiments": []}, ("experiments", "at least 1 item")),
]


def without(*entries: str) -> dict[str, Any]:
    """Return the roster without these policies."""
    return ROSTER | {"policies": {name: entry for name, entry in ROSTER["policies"].items() if name not in entries}}


# What is spelled out below the two lists is another than they and the methods of the experiment come to.
NOW = ("not as the seeds above and the methods of smoke are now", "run `make dag`")
RLHF = {"experiment": "smoke", "seed": 0, "policy": "rlhf"}
STALE: list[tuple[str, Any, tuple[str, ...]]] = [
    ("lists_alone", {"experiments": ["smoke"], "seeds": [0]}, ("trainings: missing", "policies: missing")),
    ("policies_as_a_list", ROSTER | {"policies": ["reference", "sft"]}, ("policies", "expected keys")),
    ("entry_without_a_seed", ROSTER | {"policies": {"smoke-0-sft": {"experiment": "smoke"}}}, ("seed: missing",)),
    ("another_seed", workspace.roster(["smoke"], [1]) | {"seeds": [0]}, ("policies: smoke-0-dpo", *NOW)),
    ("a_seed_less", ROSTER | {"seeds": [0, 1]}, ("policies: smoke-1-dpo", *NOW)),
    ("a_method_less", workspace.roster(["smoke"], [0], ["sft", "ppo"]), ("policies: smoke-0-dpo", *NOW)),
    ("unknown_policy", ROSTER | {"policies": ROSTER["policies"] | {"smoke-0-rlhf": RLHF}}, ("smoke-0-rlhf", *NOW)),
    ("no_reference", without("smoke-0-reference"), ("policies: smoke-0-reference", *NOW)),
    ("no_policies", ROSTER | {"policies": {}}, ("policies: smoke-0-dpo", *NOW)),
    ("no_trainings", ROSTER | {"trainings": {}}, ("smoke-0-dpo", *NOW)),
    ("entry_of_another", ROSTER | {"policies": ROSTER["policies"] | {"smoke-0-sft": RLHF}}, ("smoke-0-sft", *NOW)),
]
COMMANDS: list[tuple[str, tuple[str, ...]]] = [
    ("format ../smoke", ("'../smoke'", "a-z")),
    ("format /etc/passwd", ("'/etc/passwd'", "a-z")),
    ("format smoke.yaml", ("'smoke.yaml'", "a-z")),
    ("format Smoke", ("'Smoke'", "a-z")),
    ("format smoke\0", (r"'smoke\x00'", "a-z")),
    ("format smoke\nformat:", (r"'smoke\nformat:'", "a-z")),
    (f"format {'s' * 300}", ("not found", "there are: smoke")),
    ("format elsewhere", ("experiments/elsewhere.yaml: not found", "there are: smoke")),
    ("format", ("required: experiment",)),
    ("format smoke 0", ("unrecognized arguments: 0",)),
    ("format --force", ("experiment",)),
    ("train smoke", ("required: seed, method",)),
    ("train smoke zero sft", ("argument seed", "'zero'")),
    ("train smoke -1 ppo", ("argument seed", "'-1'")),
    ("train smoke 0.5 dpo", ("argument seed", "'0.5'")),
    ("train smoke 0", ("required: method",)),
    ("train smoke 0 rlhf", ("argument method", "'rlhf'", "'sft', 'ppo', 'dpo'")),
    ("train smoke 0 reference", ("argument method", "'reference'")),
    ("reference smoke 1_0", ("argument seed", "'1_0'")),
    ("reference smoke 00", ("argument seed", "'00'")),
    ("preferences smoke 2147483648", ("argument seed", "'2147483648'")),
    (f"preferences smoke {'9' * 5000}", ("argument seed", "from 0 to 2147483647")),
    ("complete smoke 0 rlhf", ("argument policy", "'rlhf'", "'reference', 'sft', 'ppo', 'dpo'")),
    ("score smoke 0", ("required: policy",)),
    ("probe smoke 0 SFT", ("argument policy", "'SFT'")),
]


def write_roster(content: Any) -> None:
    if content is None:
        PARAMS.unlink()
    else:
        PARAMS.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content, sort_keys=False).encode())


@pytest.mark.parametrize(("content", "names"), [row[1:] for row in ROSTERS], ids=[row[0] for row in ROSTERS])
def test_a_broken_roster_is_refused_by_the_one_stage_that_reads_it(workplace, content, names):
    write_roster(content)
    refused("evaluate", "smoke", names=("params.yaml", *names))


@pytest.mark.parametrize(("content", "names"), [row[1:] for row in STALE], ids=[row[0] for row in STALE])
def test_what_is_spelled_out_otherwise_is_refused_until_it_is_spelled_out_again(workplace, content, names):
    write_roster(content)
    refused("evaluate", "smoke", names=("params.yaml", *names))
    roster.main(["spell-out"])
    seeds = content["seeds"]
    assert yaml.safe_load(PARAMS.read_text()) == workspace.roster(["smoke"], seeds)
    if seeds == [0]:
        assert run("evaluate", "smoke").code == 0


@pytest.mark.parametrize(
    "stage", ["train_dpo smoke 0", "complete smoke 0 dpo", "probe smoke 0 dpo", "score smoke 0 dpo"]
)
def test_a_method_that_the_experiment_does_not_name_is_neither_trained_nor_judged(workplace, stage):
    file = Path("experiments/smoke.yaml")
    parameters = yaml.safe_load(file.read_text())
    del parameters["methods"]["dpo"]
    file.write_text(yaml.safe_dump(parameters))
    refused(*stage.split(), names=("experiments/smoke.yaml: methods", "no section dpo", "`make dag`"))
    refused("evaluate", "smoke", names=("params.yaml: policies: smoke-0-dpo", "`make dag`"))
    roster.main(["spell-out"])
    assert run("evaluate", "smoke").code == 0


@pytest.mark.parametrize(("command", "names"), COMMANDS, ids=[ascii(row[0])[1:41] for row in COMMANDS])
def test_a_wrong_command_line_is_refused(workplace, command, names):
    refused(*command.split(" "), names=names)


def added(capsys: pytest.CaptureFixture[str]) -> str:
    """Check that `roster add other` is refused with one message, and return it."""
    shutil.copy("experiments/smoke.yaml", "experiments/other.yaml")
    before = sorted(os.listdir())
    with pytest.raises(SystemExit) as ended:
        roster.main(["add", "other"])
    assert ended.value.code == 2
    assert sorted(os.listdir()) == before, "no temporary file stays"
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("roster: params.yaml: ")
    return message


@pytest.mark.parametrize(("content", "names"), [row[1:] for row in ROSTERS], ids=[row[0] for row in ROSTERS])
def test_nothing_is_added_to_a_broken_roster_and_it_stays_as_it_is(workplace, capsys, content, names):
    write_roster(content)
    before = PARAMS.read_bytes() if PARAMS.exists() else None
    message = added(capsys)
    assert all(name in message for name in names)
    assert (PARAMS.read_bytes() if PARAMS.exists() else None) == before


def test_nothing_is_added_to_a_folder(workplace, capsys):
    PARAMS.unlink()
    PARAMS.mkdir()
    assert "a folder" in added(capsys) and not any(PARAMS.iterdir())


SOUND: list[tuple[str, bytes]] = [
    ("comments", b"# a\nexperiments: # b\n  - smoke # c\n# d\nseeds: [0] # e\n"),
    ("windows_line_ends", b"experiments:\r\n  - smoke # c\r\nseeds: [0]\r\ntrainings: {}\r\npolicies: {}\r\n"),
    ("flow", b"experiments: ['smoke'] # c\nseeds: [0, 1]\ntrainings: {}\npolicies: {}\n"),
    ("as_it_was_before", b"experiments: # b\n  - smoke # c\nseeds: [0] # d\npolicies: [reference, sft]\n"),
    ("spelled_out", yaml.safe_dump(ROSTER, sort_keys=False).encode()),
    ("no_newline_at_the_end", b"policies: {}\ntrainings: {}\nseeds: [0]\nexperiments:\n- smoke"),
    ("one_line_of_json", b'{"experiments": ["smoke"], "seeds": [0]}\n'),
    ("document_marks", b"%YAML 1.1\n---\nexperiments: [smoke]\nseeds: [0]\n...\n"),
]


@pytest.mark.parametrize("content", [row[1] for row in SOUND], ids=[row[0] for row in SOUND])
def test_an_experiment_is_added_to_every_form_of_a_sound_roster(workplace, content):
    shutil.copy("experiments/smoke.yaml", "experiments/other.yaml")
    PARAMS.write_bytes(content)
    seeds = yaml.safe_load(content)["seeds"]
    roster.main(["add", "other"])
    assert load_roster().model_dump() == workspace.roster(["smoke", "other"], seeds)
    text = PARAMS.read_bytes()
    assert text.count(b"\r\n") == (text.count(b"\n") if b"\r\n" in content else 0)
    assert [text.count(comment) for comment in (b"# a", b"# b", b"# c", b"# d", b"# e")] == [
        content.count(comment) for comment in (b"# a", b"# b", b"# c", b"# d", b"# e")
    ]
