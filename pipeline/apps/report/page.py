"""The report as one HTML file: text from templates, charts and completions from data that the page holds itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.apps.report import (
    before_after,
    differences,
    forest,
    guards,
    judges,
    limits,
    numbers,
    offline,
    palette,
    refusals,
    verdict,
)
from pipeline.apps.report.charts.panel import Figure, compared
from pipeline.apps.report.material import Material
from pipeline.apps.report.roles import judges_in_order, role
from pipeline.apps.report.texts import MARGIN, SCALE, Texts

HERE = Path(__file__).parent
VEGA_LITE = "6.4"  # what Altair 6 writes for
SCRIPTS = ("scheme.js", "charts.js", "texts.js", "completions.js", "before_after.js")


def render(material: Material, figures: Mapping[str, Figure]) -> str:
    """Return the whole page."""
    scripts = [offline.chart_library(VEGA_LITE), *(offline.inline(_asset(name)) for name in SCRIPTS)]
    template = _templates().get_template("page.html.j2")
    return template.render(
        **_view(material, figures),
        style=_asset("style.css"),
        scripts=scripts,
        policy=offline.security_policy(scripts),
        chart_data=_for_script(_charts(figures)),
        completion_data=_for_script(_completions(material)),
    )


def _view(material: Material, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return what the templates show."""
    evaluation = material.evaluation
    judgement, found = verdict.verdict(evaluation), differences.pairs(evaluation)
    gaps = judges.gaps(evaluation)
    names = list(compared(evaluation))
    return {
        "material": material,
        "evaluation": evaluation,
        "meta": evaluation["meta"],
        "figures": figures,
        "verdict": judgement,
        "verdict_bars": forest.bars([line.difference for line in judgement.lines]),
        "pairs": found,
        "pair_bars": forest.bars([pair.difference for pair in found]),
        "before_after": before_after.lines(evaluation),
        "pairs_shown": before_after.SHOWN,
        "pairs_file": before_after.FILE,
        "guards": guards.table(evaluation),
        "limits": limits.limits(evaluation, material.cards),
        "refusals": refusals.groups(evaluation),
        "cards": judges.cards(evaluation, material.cards) + judges.of_refusals(evaluation, material.refusal_card),
        "gaps": gaps,
        "gap_bars": forest.bars([gap.gap for gap in gaps]),
        "judges": judges_in_order(evaluation),
        "methods": [name for name in evaluation["meta"]["policies"] if name != differences.REFERENCE],
        "names": names,
        "colors": palette.colors(names),
        "hides_at": MARGIN * evaluation["meta"]["threshold"],
    }


def _templates() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "percent", "p_value", "ends", "label", "find", "interval"):
        environment.globals[name] = getattr(numbers, name)
    environment.globals.update(role=role, MISSING=numbers.MISSING, NONE=numbers.NOT_APPLICABLE)
    return environment


def _charts(figures: Mapping[str, Figure]) -> dict[str, Any]:
    specs = {
        panel.name: {**panel.chart.to_dict(), "width": "container"}
        for figure in figures.values()
        for panel in figure.panels
    }
    for spec in specs.values():
        spec.pop("config", None)  # Altair's own; the page's themes take its place
    return {"specs": specs, "themes": {scheme: palette.theme(scheme) for scheme in palette.BACKGROUNDS}}


def _completions(material: Material) -> dict[str, Any] | None:
    if not isinstance(material.texts, Texts):
        return None
    policies = list(material.texts.completions)
    return {
        **asdict(material.texts),
        "scale": SCALE,
        "policies": policies,
        "judges": judges_in_order(material.evaluation),
        "colors": palette.colors(policies),
        "labels": {name: numbers.label(name) for name in policies},
        "primary": material.evaluation["meta"]["primary_judge"],
        "pairs": before_after.ends(material.pairs, material.texts),
    }


def _for_script(value: Any) -> Any:
    """Return JSON that can stand in a script element: no `<` can end the element or begin a comment."""
    import markupsafe

    return markupsafe.Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text(encoding="utf-8")
