"""`make pin`: the commits and hashes that an experiment leaves to fill, from a hub and a web server on loopback."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.loader import load
from tests.sources.file_server import Files
from tests.sources.file_server import serving as serving_files
from tests.sources.hub_server import COMMIT, Hub, serving
from tests.sources.small_experiment import surroundings, write_experiment
from tests.sources.wheels import tree

EXPERIMENT = Path("experiments/exp.yaml")
ROWS, LIST = b'{"prompt": "a silly day"}\n', b"darn\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    repository = {"train.jsonl": ROWS, "deep/dev.jsonl": ROWS * 2}
    files = {f"datasets/owner/rows/{name}": content for name, content in repository.items()}
    files["datasets/owner/closed/a"] = ROWS
    with serving(Hub(files, gated=frozenset({"datasets/owner/closed"}))) as server:
        yield server


@pytest.fixture
def files() -> Iterator[Files]:
    with serving_files({"/list.txt": LIST}) as server:
        yield server


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Files) -> dict[str, Any]:
    """Return the sources of an experiment, pinned to nothing but two of their hashes."""
    monkeypatch.chdir(tmp_path)
    sources: dict[str, Any] = {
        "prompts": {
            "uri": "hub:datasets/owner/rows",
            "sha256": {"train.jsonl": None, "deep/dev.jsonl": digest(ROWS * 2)},
        },
        "older": {"uri": f"hub:datasets/owner/rows@{COMMIT}", "sha256": {"train.jsonl": None}},
        "list": {"uri": f"url:{files.url}/list.txt", "sha256": None},
        "sound": {"uri": f"url:{files.url}/list.txt#other.txt", "sha256": digest(LIST)},
    }
    write_experiment(tmp_path, "exp", sources)
    return sources


def run(module: str, hub: Hub) -> "subprocess.CompletedProcess[str]":
    env = surroundings(HF_ENDPOINT=hub.url, HF_HOME=str(Path("hub").absolute()))
    command = [sys.executable, "-m", module, "exp"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def paste(block: dict[str, Any]) -> None:
    """Put what was printed into the experiment's file, as a person would."""
    file = yaml.safe_load(EXPERIMENT.read_text())
    file["data"]["sources"] |= block["data"]["sources"]
    EXPERIMENT.write_text(yaml.safe_dump(file))


def test_download_says_what_is_left_to_fill_and_fetches_what_pin_printed(experiment: dict[str, Any], hub: Hub) -> None:
    refused = run("stages.download", hub)
    assert refused.returncode == 2 and hub.requests == []
    message = refused.stderr.splitlines()[-1]
    for key in (
        "experiments/exp.yaml: left to fill: ",
        "data.sources.prompts: hub:datasets/owner/rows: the revision, sha256 of train.jsonl; ",
        f"data.sources.older: hub:datasets/owner/rows@{COMMIT}: sha256 of train.jsonl; ",
        f"data.sources.list: {experiment['list']['uri']}: sha256; ",
        "run `make pin EXPERIMENT=exp`",
    ):
        assert key in message
    assert "sound" not in message

    before = EXPERIMENT.read_bytes()
    printed = run("pipeline.apps.pin", hub)
    assert printed.returncode == 0, printed.stderr
    assert EXPERIMENT.read_bytes() == before, "pin prints, and changes no file"
    block = yaml.safe_load(printed.stdout)
    rows = f"hub:datasets/owner/rows@{COMMIT}"
    assert block["data"]["sources"] == {
        "prompts": {"uri": rows, "sha256": {"train.jsonl": digest(ROWS), "deep/dev.jsonl": digest(ROWS * 2)}},
        "older": {"uri": rows, "sha256": {"train.jsonl": digest(ROWS)}},
        "list": {"uri": experiment["list"]["uri"], "sha256": digest(LIST)},
    }

    paste(block)
    done = run("stages.download", hub)
    assert done.returncode == 0, done.stderr
    raw = tree(Path("data/exp/raw"))
    assert raw["prompts/train.jsonl"] == raw["older/train.jsonl"] == ROWS and raw["list/list.txt"] == LIST
    again = run("pipeline.apps.pin", hub)
    assert (again.returncode, again.stdout) == (0, "") and "nothing is left to fill" in again.stderr


def test_the_hash_is_that_of_the_commit_which_is_written(experiment: dict[str, Any], hub: Hub) -> None:
    file = yaml.safe_load(EXPERIMENT.read_text())
    file["data"]["sources"] = {"older": experiment["older"] | {"uri": f"hub:datasets/owner/rows@{'f' * 40}"}}
    EXPERIMENT.write_text(yaml.safe_dump(file))
    done = run("pipeline.apps.pin", hub)
    assert done.returncode == 2 and done.stdout == ""
    assert f"pin: data.sources.older: hub:datasets/owner/rows@{'f' * 40}: " in done.stderr
    assert f"has no commit {'f' * 40}" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"uri": "hub:datasets/owner/closed", "sha256": {"a": None}}, "is gated; accept its terms"),
        (
            {"uri": "hub:datasets/owner/rows", "sha256": {"train.jsonl": None, "deep/dev.jsonl": "0" * 64}},
            f"deep/dev.jsonl: expected sha256 {'0' * 64}",
        ),
        ({"uri": "hub:datasets/owner/rows", "sha256": {"absent.csv": None}}, "has no file 'absent.csv'"),
        ({"uri": "hub:datasets/owner/rows", "sha256": None}, "expected sha256 to map every wanted file to its hash"),
        ({"uri": "hub:datasets/owner/rows", "sha256": {"../up": None}}, "could leave the target folder"),
        ({"uri": "url:http://127.0.0.1:1/list.txt", "sha256": None}, "the server did not give it"),
        ({"uri": "url:http://198.51.100.7/list.txt", "sha256": None}, "https alone"),
        ({"uri": "pypi:sample==1.0#sample/", "sha256": None}, "a pypi: source is pinned by hand"),
        ({"uri": "file:rows.jsonl", "sha256": None}, "a file: source is pinned by hand; `sha256sum`"),
    ],
)
def test_what_cannot_be_had_is_one_message_that_names_the_key(
    source: dict[str, Any], said: str, experiment: dict[str, Any], hub: Hub
) -> None:
    file = yaml.safe_load(EXPERIMENT.read_text())
    file["data"]["sources"] = {"prompts": source}
    EXPERIMENT.write_text(yaml.safe_dump(file))
    done = run("pipeline.apps.pin", hub)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"pin: data.sources.prompts: {source['uri']}: ")
    assert said in done.stderr


def test_pins_that_are_left_to_fill_are_no_reason_to_refuse_the_file(experiment: dict[str, Any]) -> None:
    assert load("exp", ("data",)).data.sources["list"].sha256 is None
    assert os.listdir("experiments") == ["exp.yaml"]
