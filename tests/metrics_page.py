"""The page of all metrics, made from what they declare.

    python tests/metrics_page.py

writes ``docs/metrics.md``.
"""

from pathlib import Path

from perturbrl.evaluation.registry import TABLES

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
HEAD = """# Metrics

What every number in a table means. x̂ is the predicted and x the measured mean expression of a perturbation, c that of
control cells, m that of the training perturbations; δ = x − c. "Doing nothing" is a prediction of no change, or a
design without a dose. Where its score depends on the data, the `no_op` row of the table shows it. This page is written
by `python tests/metrics_page.py` from what the metrics declare in `perturbrl.evaluation.registry`.
"""


def entry(metric):
    direction = "not to be ranked by" if metric.better == "neither" else f"{metric.better} is better"
    nothing = "depends on the data" if metric.no_op is None else f"{metric.no_op:g}"
    bounds = f"{metric.low:g} to {metric.high:g}".replace("-", "−").replace("inf", "∞")
    return (
        f"**`{metric.name}`** ({metric.title}). {metric.meaning}\n\n"
        f"`{metric.formula}`: {bounds}, {direction}; doing nothing: {nothing}. Source: {metric.source}.\n"
    )


def page():
    sections = [
        "\n".join([f"## {title}\n", *(entry(metric) for metric in table)]) for title, table in TABLES.items()
    ]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
