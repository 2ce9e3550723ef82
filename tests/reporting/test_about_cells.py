"""What a page says of the cells that it rests on."""

from judged_run import trained
from landscape_run import trained_on_landscape

from perturbrl.reporting.about_cells import what_orders
from perturbrl.reporting.callback import judged_of


def test_a_landscapes_page_says_what_ordered_the_cells_and_a_screens_does_not() -> None:
    judged = judged_of(trained_on_landscape())
    assert what_orders(judged.measured, judged.problem.twin) == {
        "order of cells": "obs['pseudotime'], pseudotime"
    }
    screen = judged_of(trained().model)
    assert what_orders(screen.measured, screen.problem.twin) == {}
