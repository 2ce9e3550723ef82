import pytest
import torch

from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.processes import Processes


@pytest.mark.parametrize(("total", "size"), [(12, 4), (12, 5), (12, 50)])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_minibatches_of_all_processes_together_are_those_of_one(total, size, ranks):
    share = total // ranks
    single = list(Minibatches(total, size).epoch(torch.Generator().manual_seed(5)))
    parts = [
        list(Minibatches(share, size, Processes(rank=r, count=ranks)).epoch(torch.Generator().manual_seed(5)))
        for r in range(ranks)
    ]
    assert all(len(part) == len(single) for part in parts)
    for j, (rows, n) in enumerate(single):
        union = torch.cat([part[j][0] + r * share for r, part in enumerate(parts)])
        assert sorted(union.tolist()) == sorted(rows.tolist())
        assert all(part[j][1] == n == len(rows) for part in parts)
    assert sorted(torch.cat([rows for rows, _ in single]).tolist()) == list(range(total))
