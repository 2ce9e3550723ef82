"""The learning curves, with what each of the two stages did in every iteration."""

from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from perturbrl.pl.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    Plot,
    legend_beside,
    new_figure,
)
from perturbrl.rl.outcomes import TrustRegionOutcome
from perturbrl.training.iteration import outcome_column

FEW: Final = 4
WIDE: Final = 20.0
_MARKS: Final = "oxvPsD"


def plot_learning(metrics: pd.DataFrame) -> Plot:
    """Return, KL after each stage, outcome of every natural step, and weight of the KL penalty.

    Args:
        metrics: one row per iteration, as the CSV logger writes them.
    """
    has_penalty = "ppo/kl_coef" in metrics
    has_kl = "trust_region/kl" in metrics or "ppo/kl" in metrics
    figure, panels = new_figure(6.8, 1.2 + 1.7 * (1 + has_kl + has_penalty), 1 + has_kl + has_penalty)
    dot = "." if len(metrics) < FEW else ""
    panels[0].plot(metrics["epoch"], metrics["return"], color=BLUE, marker=dot)
    panels[0].set_ylabel("mean return")
    if has_kl:
        _kl(panels[1], metrics)
    if has_penalty:
        panels[-1].plot(
            metrics["epoch"], metrics["ppo/kl_coef"], color=PURPLE, marker=dot, drawstyle="steps-post"
        )
        weights = metrics["ppo/kl_coef"].dropna()
        if weights.max() > WIDE * weights.min():
            panels[-1].set_yscale("log")
        panels[-1].set_ylabel("KL penalty β")
    _stage_switch(panels, metrics)
    panels[-1].set_xlabel("iteration")
    panels[-1].margins(x=0.02)
    if len(metrics) == 1:
        panels[-1].set_xlim(metrics["epoch"].iloc[0] - 1, metrics["epoch"].iloc[0] + 1)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    said = " Return of the exploring policy." + has_kl * (
        " KL divergence (mean over cells, summed over doses) of the new policy from the one that gathered the "
        "experience: after stage 1, the natural-gradient step, and after stage 2, the PPO epochs."
    )
    said += has_penalty * " β weighs the KL penalty of stage 2 and adapts once per iteration."
    caption = said.strip() + _rejections(metrics)
    return Plot("learning", "Learning curves", caption, figure, metrics)


def _kl(axes: Axes, metrics: pd.DataFrame) -> None:
    dot = "." if len(metrics) < FEW else ""
    for column, colour, label, style in (
        ("trust_region/kl", ORANGE, "stage 1: natural step", "-"),
        ("ppo/kl", GREEN, "stage 2: PPO epochs", "--"),
    ):
        if column in metrics:
            kl = metrics[column]
            axes.plot(metrics["epoch"], kl, style, color=colour, label=label, lw=1.2, marker=dot)
    _outcomes(axes, metrics)
    axes.set_ylabel("KL to old policy\n(nats)")
    legend_beside(axes)


def _outcomes(axes: Axes, metrics: pd.DataFrame) -> None:
    for outcome, mark in zip(TrustRegionOutcome, _MARKS, strict=True):
        steps = _steps_that_ended(metrics, outcome)
        if len(steps) == 0:
            continue
        accepted = outcome is TrustRegionOutcome.ACCEPTED
        axes.plot(
            steps["epoch"],
            steps["trust_region/kl"],
            mark,
            ms=2.5 if accepted else 6,
            color=ORANGE if accepted else VERMILION,
            label=f"{'' if accepted else 'rejected, '}{_words(outcome)} ({len(steps)})",
        )


def _steps_that_ended(metrics: pd.DataFrame, outcome: TrustRegionOutcome) -> pd.DataFrame:
    column = outcome_column(outcome)
    return metrics[metrics[column] == 1] if column in metrics else metrics[:0]


def _words(outcome: TrustRegionOutcome) -> str:
    return outcome.value.replace("_", " ").replace("kl", "KL")


def _rejections(metrics: pd.DataFrame) -> str:
    """What the rejected steps were rejected for, in sentences."""
    rejected = [o for o in TrustRegionOutcome if o is not TrustRegionOutcome.ACCEPTED]
    return "".join(
        f" Rejected, {_words(o)}: {o.meaning}." for o in rejected if len(_steps_that_ended(metrics, o))
    )


def _stage_switch(panels: list[Axes], metrics: pd.DataFrame) -> None:
    """A line where a warm start leaves stage 1 for stage 2."""
    if not {"trust_region/kl", "ppo/kl"} <= set(metrics.columns):
        return
    second_only = metrics["trust_region/kl"].isna() & metrics["ppo/kl"].notna()
    if not second_only.any() or second_only.all():
        return
    for axes in panels:
        axes.axvline(
            metrics.loc[second_only, "epoch"].iloc[0] - 0.5, color=GREY, ls=":", label="stage 1 ends"
        )
    legend_beside(panels[1])
