"""The download stage where the model is built: from the texts that are learned from, and from no others."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.apps.verify import manifests
from pipeline.apps.verify.finding import DIFFERENT, OK
from pipeline.config.loader import load
from pipeline.data.schema import content_id, split_of
from pipeline.io.records import read_json, write_json
from pipeline.tracking.recording import NullRun
from stages import download
from tests.smoke.checkpoint import write_checkpoint
from tests.sources.wheels import digest, tree

ROOT = Path(__file__).resolve().parents[2]
BASE = Path("models/tiny/base")
BUILD = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1}


def folder(name: str) -> dict[str, Any]:
    files = {path.name: digest(path) for path in sorted(Path(name).iterdir())}
    return {"uri": f"file:{name}", "sha256": files}


def save(sentences: list[str]) -> None:
    """Write an experiment of these sentences, whose content decides what is learned from them."""
    Path("given/lines").mkdir(parents=True, exist_ok=True)
    Path("given/lines/all.txt").write_text("".join(f"{text}\n" for text in sentences), encoding="utf-8")
    if not Path("given/model").exists():
        write_checkpoint(Path("given/model"))
    file = yaml.safe_load((ROOT / "experiments" / "t5-mini-rewrite.yaml").read_text(encoding="utf-8"))
    file["model"]["build"] |= BUILD | {"num_heads": 2}
    file["data"]["sources"] = {"lines": folder("given/lines")}
    text = {"file": "lines/all.txt", "field": None, "unit": "text", "skip": None, "split": "content", "most": None}
    file["data"] |= {"texts": {"all": text}, "eval_fraction": 0.2, "dev_fraction": 0.2}
    for name, keyword in (("minilm", "darn"), ("words", "silly")):
        file["scorers"][name] = {"kind": "keyword", "keywords": [keyword], "saturation": 1}
    file["judge"]["fit"] = None
    file["fluency"]["source"] = folder("given/model")
    Path("experiments").mkdir(exist_ok=True)
    Path("experiments/tiny.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")


def run() -> dict[str, bytes]:
    download.main(
        Stage(name="download", experiment="tiny", settings=load("tiny", download.NODE.sections), run=NullRun())
    )
    return tree(BASE)


def is_learned_from(text: str) -> bool:
    return split_of(content_id(text), 0.2, 0.2) == "train"


@pytest.fixture
def sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    nouns, verbs = ("goose", "river", "moon", "captain", "tree"), ("walks", "sings", "waits", "turns")
    return [f"the {one} {verb} by every {other}" for one in nouns for verb in verbs for other in nouns]


def test_the_model_stands_in_its_folder_and_verify_finds_what_the_manifest_tells(sentences: list[str]) -> None:
    save(sentences)
    base = run()
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} < base.keys()
    findings = list(manifests.check_sources("tiny", load("tiny", manifests.SECTIONS)))
    assert {finding.state for finding in findings if str(BASE) in finding.what} == {OK}
    assert any("model.safetensors" in finding.what for finding in findings)
    assert run() == base


def test_no_dev_or_eval_text_is_in_it(sentences: list[str]) -> None:
    learned = [text for text in sentences if is_learned_from(text)]
    strange = [f"quaggy zebra number {number} yawns" for number in range(60)]
    save(sentences)
    base = run()
    save(learned + [text for text in strange if not is_learned_from(text)])
    assert run() == base
    save(sentences + [text for text in strange if is_learned_from(text)][:3])
    assert run()["tokenizer.json"] != base["tokenizer.json"]


@pytest.mark.parametrize("change", ["seed", "weights"])
def test_verify_names_a_base_that_is_not_what_was_to_be_built(sentences: list[str], change: str) -> None:
    save(sentences)
    run()
    if change == "weights":
        (BASE / "model.safetensors").write_bytes(b"other")
    else:
        manifest = read_json(BASE / "manifest.json")
        manifest["model"]["build"]["seed"] += 1
        write_json(BASE / "manifest.json", manifest)
    findings = manifests.check_sources("tiny", load("tiny", manifests.SECTIONS))
    (wrong,) = [finding for finding in findings if finding.state != OK]
    assert wrong.state == DIFFERENT and str(BASE) in wrong.what
