"""How the trainings went: reward, distance from the reference and loss, one line a seed."""

from itertools import groupby

import altair as alt

from pipeline.apps.report.charts.panel import Chart, Figure, Panel, Row, chart, color
from pipeline.apps.report.material import Material
from pipeline.apps.report.numbers import label

# What is drawn, the first of these columns that a training wrote, and how the axis names it.
QUANTITIES = {
    "reward": {"objective/score": "score by the reward scorer", "objective/reward_margin": "implicit reward margin"},
    "kl": {"objective/kl": "KL to the reference (nats)"},
    "loss": {"policy/loss": "loss"},
}


def curves(material: Material) -> Figure:
    """Return a panel for every method and quantity that its trainings wrote, side by side by quantity."""
    methods = list(dict.fromkeys(training.method for training in material.trainings))
    panels = [
        panel
        for quantity, columns in QUANTITIES.items()
        for method in methods
        if (panel := _panel(material, methods, method, quantity, columns)) is not None
    ]
    caption = (
        "One line a seed. PPO writes the score that it maximises and its KL; DPO the margin between chosen and "
        "rejected; SFT imitates chosen completions and has neither. Losses of different methods are not comparable."
        if panels
        else "The curves of the trainings are not on disk."
    )
    return Figure("training", caption, methods, panels)


def _panel(material: Material, methods: list[str], method: str, quantity: str, columns: dict[str, str]) -> Panel | None:
    trainings = [training for training in material.trainings if training.method == method]
    for column, title in columns.items():
        rows: list[Row] = [
            {"name": label(method), "seed": training.seed, "step": point["step"], "value": point[column]}
            for training in trainings
            for point in training.curve
            if point.get(column) is not None
        ]
        if rows:
            seeds = [str(seed) for seed, _ in groupby(rows, key=lambda item: item["seed"])]
            words = f"{title} of {method} by training step, seeds {', '.join(seeds)}"
            return Panel(f"training-{quantity}-{method}", f"{method}: {title}", words, _lines(rows, methods, title))
    return None


def _lines(rows: list[Row], methods: list[str], title: str) -> Chart:
    base = chart(rows).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, tickCount=5)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
        color=color(methods),
        detail="seed:N",
        strokeDash=alt.StrokeDash("seed:N", legend=None),
        tooltip=["seed:N", "step:Q", alt.Tooltip("value:Q", title=title, format=".4f")],
    )
    return base.mark_line(strokeWidth=1.5).properties(height=170)
