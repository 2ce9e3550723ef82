"""Cells whose means are round numbers, for predictions that can be worked out by hand."""

import numpy as np

from perturbrl.responses.training_cells import TrainingCells

CONTROL = np.array([1.0, 2.0, 3.0, 4.0])


def shifted(*by):
    return CONTROL + np.array(by)


MEANS = {
    "control": CONTROL,
    "A": shifted(1.0, 0.0, 0.0, 0.0),
    "B": shifted(0.0, 2.0, 0.0, 0.0),
    "C": shifted(0.0, 0.0, -3.0, 0.0),
    "C+D": shifted(0.0, 0.0, 0.0, 6.0),
}
TRAINING_MEAN = CONTROL + np.array([1.0, 2.0, -3.0, 6.0]) / 4


def cells():
    """Two cells per label, one unit above and below the mean; different numbers must not matter."""
    rows = [mean + sign for mean in MEANS.values() for sign in (1.0, -1.0)]
    labels = [label for label in MEANS for _ in range(2)]
    rows, labels = [*rows, MEANS["A"], MEANS["A"]], [*labels, "A", "A"]
    return TrainingCells(np.array(rows), labels, ["A", "g2", "g3", "g4"])


NK_SHIFT = np.array([0.0, 0.0, 10.0, 0.0])


def typed_cells():
    """The same as T cells, and control and A measured in NK cells, where A also moves the third gene."""
    of_t = cells()
    expression = np.vstack((of_t.expression, of_t.expression[:4] + NK_SHIFT))
    expression[-2:] += NK_SHIFT
    labels = [*of_t.labels, *of_t.labels[:4]]
    return TrainingCells(expression, labels, of_t.genes, ["T"] * len(of_t.labels) + ["NK"] * 4)
