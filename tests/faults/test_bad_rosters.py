"""Rosters and command lines that are broken: refused by the stages, and by `roster add`, which then changes nothing."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps import roster
from pipeline.config.roster import load_roster
from tests.faults.conftest import refused

PARAMS = Path("params.yaml")
ROSTER = {"experiments": ["smoke"], "seeds": [0], "policies": ["reference", "sft", "ppo", "dpo"]}
ROSTERS: list[tuple[str, Any, tuple[str, ...]]] = [
    ("absent", None, ("not found", "git checkout")),
    ("empty", b"", ("got nothing",)),
    ("broken", b"seeds: [0\n", ("line 2",)),
    ("byte_order_mark", b"\xef\xbb\xbfseeds: [0]\n", ("byte order mark",)),
    ("code", b"seeds: !!python/object/apply:os.getcwd []\n", ("line 1", "tag")),
    ("key_twice", b"seeds: [0]\nseeds: [1]\n", ("'seeds' stands here a second time",)),
    ("unknown_key", ROSTER | {"seed": 1}, ("seed: unknown key",)),
    ("unknown_policy", ROSTER | {"policies": ["reference", "rlhf"]}, ("policies[1]", "'rlhf'")),
    ("no_reference", ROSTER | {"policies": ["sft"]}, ("policies", "`reference`")),
    ("no_policies", ROSTER | {"policies": []}, ("policies", "at least 1 item")),
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
    ("train_sft smoke", ("required: seed",)),
    ("train_sft smoke zero", ("argument seed", "'zero'")),
    ("train_ppo smoke -1", ("argument seed", "'-1'")),
    ("train_dpo smoke 0.5", ("argument seed", "'0.5'")),
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
        PARAMS.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())


@pytest.mark.parametrize(("content", "names"), [row[1:] for row in ROSTERS], ids=[row[0] for row in ROSTERS])
def test_a_broken_roster_is_refused_by_the_one_stage_that_reads_it(workplace, content, names):
    write_roster(content)
    refused("evaluate", "smoke", names=("params.yaml", *names))


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
    ("comments", b"# a\nexperiments: # b\n  - smoke # c\n# d\nseeds: [0]\npolicies:\n  - reference\n# e\n"),
    ("windows_line_ends", b"experiments:\r\n  - smoke # c\r\nseeds: [0]\r\npolicies: [reference]\r\n"),
    ("flow", b"experiments: [smoke] # c\nseeds: [0, 1]\npolicies: ['reference', sft]\n"),
    ("one_line_of_json", b'{"experiments": ["smoke"], "seeds": [0], "policies": ["reference"]}\n'),
    ("document_marks", b"%YAML 1.1\n---\nexperiments: [smoke]\nseeds: [0]\npolicies: [reference]\n...\n"),
    ("no_newline_at_the_end", b"policies: [reference]\nseeds: [0]\nexperiments:\n- smoke"),
]


@pytest.mark.parametrize("content", [row[1] for row in SOUND], ids=[row[0] for row in SOUND])
def test_an_experiment_is_added_to_every_form_of_a_sound_roster(workplace, content):
    shutil.copy("experiments/smoke.yaml", "experiments/other.yaml")
    PARAMS.write_bytes(content)
    before = load_roster()
    roster.main(["add", "other"])
    assert load_roster() == before.model_copy(update={"experiments": ["smoke", "other"]})
    text = PARAMS.read_bytes()
    assert text.count(b"\r\n") == (text.count(b"\n") if b"\r\n" in content else 0)
    assert [text.count(comment) for comment in (b"# a", b"# b", b"# c", b"# d", b"# e")] == [
        content.count(comment) for comment in (b"# a", b"# b", b"# c", b"# d", b"# e")
    ]
