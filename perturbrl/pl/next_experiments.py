"""Figures of planned experiments: what each is expected to show, and what other ways to choose are worth."""

import numpy as np
import pandas as pd

from perturbrl.pl.responses import effects_by_name
from perturbrl.pl.style import BLUE, GREY, Plot, new_figure


def plot_next_experiments(table: pd.DataFrame, expected: str = "expected effect") -> Plot:
    """Each chosen experiment's expected effect with its 90 % interval, the first choice on top.

    Args:
        table: columns ``name``, ``evidence``, ``expected``, ``low``, ``high``, such as ``NextExperiments.table``.
        expected: what the effect is.
    """
    figure = effects_by_name(table, expected.split(",")[0])
    caption = f"{expected}. The first choice is on top; colours tell what it rests on."
    return Plot("next_experiments", "What to measure next", _sentence(caption), figure, table)


def plot_strategies(compared: pd.DataFrame, worth: str = "worth of the batch") -> Plot:
    """What the batch of each way to choose is expected to be worth; the first row is the one that was taken.

    Args:
        compared: columns ``strategy``, ``worth``, and ``low`` and ``high`` of random batches, such as
            ``NextExperiments.compared``.
        worth: what is compared.
    """
    figure, (axes,) = new_figure(6.4, 0.9 + 0.34 * len(compared))
    place = np.arange(len(compared))[::-1]
    colours = [BLUE if row == 0 else GREY for row in range(len(compared))]
    axes.barh(place, compared["worth"], color=colours, height=0.62)
    spread = compared["low"].notna().to_numpy()
    axes.hlines(place[spread], compared["low"][spread], compared["high"][spread], color="black", lw=1.5)
    axes.set_yticks(place, list(compared["strategy"]))
    axes.set_xlabel("worth of the batch")
    caption = f"{worth}. The line of random choice spans 90 % of random batches."
    return Plot("strategies", "Beside other ways to choose", _sentence(caption), figure, compared)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
