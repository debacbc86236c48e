"""The files of a report: complete, the same from the same numbers, and made without the training libraries."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.apps.report import charts, figures, latex, material, page, palette
from pipeline.apps.report.__main__ import main
from pipeline.io import paths
from tests.apps.report.made import NAME, Made
from tests.apps.report.made_numbers import METHODS, POLICIES

FIGURES = {"calibration", "categories", "comparisons", "pareto", "samples", "scores", "toxicity", "training"}
ROOT = Path(__file__).resolve().parents[3]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_command_writes_page_table_and_every_figure_the_same_again_and_keeps_them_when_it_fails(made, capsys):
    made.write()
    main([NAME])
    assert capsys.readouterr().out == f"{paths.report(NAME)}/index.html\n"
    first = files(paths.report(NAME))
    drawn = {f"figures/{name}.{form}" for name in FIGURES for form in ("svg", "pdf")}
    assert set(first) == {"index.html", "table.tex", "before_after.csv"} | drawn
    (paths.report(NAME) / "figures" / "old.svg").write_text("of an earlier version", encoding="utf-8")
    main([NAME])
    assert files(paths.report(NAME)) == first
    paths.metrics(NAME, "judge").write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main([NAME])
    assert ended.value.code == 2 and "judge.json" in capsys.readouterr().err
    assert files(paths.report(NAME)) == first


def test_without_an_evaluation_there_is_one_message(made, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["other"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("report: metrics/other/evaluation.json: not found")


def test_a_policy_has_the_same_colour_in_every_figure(written):
    for name in ("toxicity", "training", "scores", "categories", "pareto", "comparisons"):
        svg = (written / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        shown = METHODS if name in ("training", "comparisons") else POLICIES
        assert all(color in svg for color in palette.colors(shown).values()), name


def test_a_pdf_stays_readable_with_its_resources_in_order(written):
    for path in sorted((written / "figures").glob("*.pdf")):
        pdf = path.read_bytes()
        start = int(re.search(rb"startxref\s+(\d+)", pdf)[1])
        assert pdf[start : start + 4] == b"xref"
        for lines in re.findall(rb"/(?:XObject|ExtGState|Font) <<\n((?: +/\w+ \d+ \d+ R\n)+)", pdf):
            assert sorted(lines.splitlines()) == lines.splitlines()


def test_putting_resources_in_order_keeps_every_other_byte():
    page = b"stream\xff\n  /Font <<\n      /f2 9 0 R\n      /f1 8 0 R\n    >>\nend /f2 9 0 R\n/f1 8 0 R\n"
    ordered = figures.sorted_resources(page)
    assert ordered == page.replace(b"      /f2 9 0 R\n      /f1 8 0 R\n", b"      /f1 8 0 R\n      /f2 9 0 R\n")


def contrast(first, second):
    """Return the contrast of two colours (WCAG 2.2, relative luminance)."""

    def luminance(color):
        channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", sorted(palette.BACKGROUNDS))
def test_every_colour_stands_out_from_light_and_dark(ground):
    for color in (*palette.COLORS.values(), *palette.OTHERS):
        assert contrast(color, palette.BACKGROUNDS[ground]) >= 3, color


def test_latex_has_a_cell_for_every_column_and_no_character_that_breaks_it(made):
    made.evaluation["champion"]["policy"] = "ppo"
    made.evaluation["ppo"]["guards_failed"] = "distinct_2, 100%_&{x}"
    table = latex.table(made.evaluation)
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(latex.HEADER) - 1}
    assert len(rows) == 1 + len(POLICIES) + 2
    assert r"\textbf{ppo}" in table and r"distinct\_2, 100\%\_\&\{x\}" in table
    assert r"0.170 [0.150, 0.190] & $-$0.070 [$-$0.090, $-$0.050]" in table
    body = table.split(r"\midrule", 1)[1].replace(r"\%", "").replace(r"\_", "")
    assert "%" not in body and "_" not in body and table.isascii()


def test_latex_says_missing(made):
    made.evaluation["sft"]["judges"]["minilm"]["toxicity_mean"] = dict.fromkeys(("value", "low", "high"))
    row = next(line for line in latex.table(made.evaluation).splitlines() if "sft" in line)
    assert row.split("&")[1].strip() == "missing"


def test_neither_a_model_library_nor_a_chart_library_is_imported_before_it_is_needed(tmp_path):
    code = """
import sys
from pipeline.apps import report
before = {"altair", "vl_convert", "jinja2"} & set(sys.modules)
from tests.apps.report.made import Made, NAME
Made(seeds=(0,)).write()
report.write(NAME)
print(sorted(before), sorted({"torch", "transformers", "mlflow", "sklearn", "dvc"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[] []\n"


def test_a_page_of_many_completions_stays_small(made):
    sizes = []
    for experiment in (made, Made(seeds=(0,), prompts=120, samples=8)):
        experiment.write()
        found = material.read(NAME)
        sizes.append(len(page.render(found, charts.draw(found))))
    assert (sizes[1] - sizes[0]) / (
        120 * 8 * len(POLICIES)
    ) < 150  # bytes a completion, with the scores of three judges
