"""What a real MLflow server on loopback is told, and what its pages show of it in a browser."""

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.apps import track
from pipeline.io import paths
from pipeline.tracking import runs
from tests.tracking import evaluated
from tests.tracking import made_up as given
from tests.tracking.server import free_port, start_server, stop

EXPERIMENT = given.EXPERIMENT
METHODS = ("sft", "ppo", "dpo")
CHROMIUM = shutil.which("chromium")
WAIT = 120_000  # milliseconds
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Served:
    """A server that holds the runs of three trainings and their evaluation."""

    uri: str
    experiment_id: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Served]:
    """Start a server, let made-up stages tell it what they did, and yield where it is."""
    saved, port = dict(os.environ), free_port()
    for name in [name for name in os.environ if name.startswith("MLFLOW_") or name == "TRACKING"]:
        del os.environ[name]
    with chdir(tmp_path_factory.mktemp("served")):
        given.lay_out()
        shutil.copy(migrated_database, "mlflow.db")
        server = start_server(port)
        try:
            os.environ["MLFLOW_TRACKING_URI"] = uri = f"http://127.0.0.1:{port}"
            work()
            yield Served(uri, given.client().get_experiment_by_name(EXPERIMENT).experiment_id)
        finally:
            stop(server)
            os.environ.clear()
            os.environ.update(saved)


def work() -> None:
    """Run made-up stages: the reference, three trainings, and an evaluation with a report."""
    given.leave_adapter("reference")
    for method in METHODS:
        stage = f"train_{method}"
        with runs.start(stage, experiment=EXPERIMENT, seed=0, params=given.params(stage)):
            given.leave_training(method)
    with runs.start("evaluate", experiment=EXPERIMENT, params=given.params("evaluate")):
        evaluated.leave(EXPERIMENT, evaluated.evaluation(failed={"dpo": "distinct_2"}))
        page = paths.report(EXPERIMENT) / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text("<h1>Report</h1><script>document.body.append('drawn by a script')</script>")


def test_the_champion_is_registered_and_can_be_fetched(served: Served, tmp_path: Path) -> None:
    from mlflow.artifacts import download_artifacts

    version = given.client().get_model_version_by_alias(EXPERIMENT, "champion")
    assert version.tags["policy"] == "sft"
    uri = f"models:/{EXPERIMENT}@champion"
    folder = Path(download_artifacts(uri, dst_path=str(tmp_path), tracking_uri=served.uri))
    weights = folder / "adapter_model.safetensors"
    assert weights.read_bytes() == (paths.adapter(EXPERIMENT, 0, "sft") / weights.name).read_bytes()
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pkl", ".pt")]


def test_telling_it_again_adds_nothing(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    before = {run.info.run_id: len(run.data.metrics) for run in given.runs()}
    track.rebuild(EXPERIMENT)
    assert {run.info.run_id: len(run.data.metrics) for run in given.runs()} == before
    assert f"evaluate@{EXPERIMENT}: present" in capsys.readouterr().out


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)")
def test_the_pages_show_names_the_metric_to_sort_by_and_the_champion(served: Served, tmp_path: Path) -> None:
    # In a thread of its own: Playwright allows one of its loops a thread, and other tests may hold one in this.
    with ThreadPoolExecutor(1) as thread:
        seen = thread.submit(look, served, tmp_path).result()
    assert seen["lowest first"] == [("sft", "0.21"), ("ppo", "0.22"), ("dpo", "0.23"), ("reference", "0.28")]
    assert seen["highest first"] == seen["lowest first"][::-1]
    assert "Verdict: win" in seen["description"]
    assert "drawn by a script" in seen["report"]
    assert seen["foreign"] == set()


def look(served: Served, folder: Path) -> dict[str, Any]:
    """Sort the table of runs by toxicity, open a run, the report and the champion; leave a screenshot of each."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 2000, "height": 900})
        page.set_default_timeout(WAIT)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        experiment = f"{served.uri}/#/experiments/{served.experiment_id}"
        page.goto(f"{experiment}/runs?workflowType=machine_learning")
        page.get_by_role("button", name="Sort: Created").click()
        page.get_by_test_id("sort-select-toxicity_mean").click()
        seen: dict[str, Any] = {"highest first": shown(page, "reference")}
        page.get_by_test_id("sort-header-toxicity_mean").click()
        seen["lowest first"] = shown(page, "sft")
        page.screenshot(path=folder / "runs.png")
        page.get_by_role("link", name="sft", exact=True).click()
        seen["description"] = page.get_by_text("Verdict: win").locator("xpath=..").inner_text()
        page.screenshot(path=folder / "run.png")
        (evaluation,) = given.runs(stage="evaluate")
        page.goto(f"{experiment}/runs/{evaluation.info.run_id}/artifacts/report/index.html")
        report = page.frame_locator("iframe").get_by_text("drawn by a script")
        seen["report"] = report.inner_text()
        page.screenshot(path=folder / "report.png")
        page.goto(f"{served.uri}/#/models/{EXPERIMENT}")
        page.get_by_text("@ champion").wait_for()
        page.screenshot(path=folder / "model.png")
        seen["foreign"] = {url for url in asked if not url.startswith((served.uri, "data:", "blob:"))}
        browser.close()
    return seen


def shown(page: Any, first: str) -> list[tuple[str, str]]:
    """Wait until a run is first and the rows rest, and return name and toxicity of the runs that have one, in order."""
    page.locator('[row-index="0"] a').filter(has_text=re.compile(f"^{first}$")).first.wait_for()
    found, before = read_rows(page), None
    while found != before:  # sorting redraws the rows one after another
        page.wait_for_timeout(500)
        found, before = read_rows(page), found
    return [(name, toxicity) for name, toxicity in found if toxicity != "-"]


def read_rows(page: Any) -> list[tuple[str, str]]:
    """Return name and toxicity, "-" for none, of the rows of the table as they are now."""
    rows = [page.locator(f'[row-index="{index}"]') for index in range(5)]
    return [
        (row.locator("a").first.inner_text(), row.locator('[col-id="metrics.`toxicity_mean`"]').inner_text().strip())
        for row in rows
    ]
