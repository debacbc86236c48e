"""DVC's plots are drawn in a browser that has no net."""

import subprocess
import sys

import pytest
import yaml

from pipeline.apps.report import dvc_plots
from pipeline.io import paths
from pipeline.io.records import write_csv
from tests.apps.report.conftest import Watched

PLOTS = {"scatter": {"x": "perplexity", "y": "toxicity"}, "linear": {"x": "perplexity", "y": "toxicity"}}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a DVC repository without Git that plots two CSV files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)
    for template in PLOTS:
        write_csv(paths.plot("exp", template), [{"perplexity": 15 + at, "toxicity": 0.1 * at} for at in range(3)])
    listed = [{str(paths.plot("exp", name)): {"template": name, **axes}} for name, axes in PLOTS.items()]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": listed}), encoding="utf-8")
    return tmp_path


def test_every_plot_is_drawn_and_nothing_is_requested(repository, browser):
    assert dvc_plots.main([]) == 0
    page = repository / "dvc_plots" / "index.html"
    assert "cdn." not in page.read_text(encoding="utf-8").lower()
    opened = Watched(browser, page)
    opened.page.wait_for_selector("svg, canvas", state="attached")
    assert opened.page.locator("body > div").count() == len(PLOTS)
    assert opened.page.locator("body > div > svg, body > div > canvas, .chart-wrapper").count() >= len(PLOTS)
    assert opened.errors == []  # DVC's templates make Vega-Lite warn of what they leave empty
    assert opened.requests == [opened.address]


def test_passes_arguments_on_and_returns_dvcs_status(repository):
    assert dvc_plots.main(["nothing-that-dvc-knows"]) != 0
