"""Which clones judge a landscape, and which way they went."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from studies.landscape_larry import HIDDEN, clone_cases

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.presets import detect_fields


def test_a_clone_judges_at_each_time_that_later_cells_of_one_fate_outnumber_the_other() -> None:
    cells = [
        (1, 2, "undiff"),
        (1, 4, "Neutrophil"),
        (1, 6, "Neutrophil"),
        (2, 4, "undiff"),
        (2, 4, "undiff"),
        (2, 6, "Monocyte"),
        (3, 2, "undiff"),  # as many of one as of the other
        (3, 6, "Monocyte"),
        (3, 6, "Neutrophil"),
        (4, 6, "Monocyte"),  # nothing earlier
        (HIDDEN, 2, "undiff"),
        (HIDDEN, 6, "Monocyte"),
    ]
    obs = pd.DataFrame(cells, columns=["clone", "time", "cell_type"]).assign(perturbation="control")
    obs.index = obs.index.astype(str)
    adata = AnnData(sp.csr_matrix(np.ones((len(obs), 3), dtype=np.float32)), obs=obs)
    cases = clone_cases(PerturbationDataset.from_adata(adata, detect_fields(adata)))
    assert [(case.clone, case.time, case.early.tolist(), case.fate) for case in cases] == [
        (1, 2.0, [0], 1),
        (1, 4.0, [1], 1),
        (2, 4.0, [3, 4], 0),
    ]
