"""Which rows are whose, and sums over all of them."""

import torch
import torch.distributed as dist

from perturbrl.rl.processes import ALONE, Processes


def test_one_process_is_its_own_sum():
    value = torch.tensor([1.0, 2.0])
    assert ALONE.sum(value) is value
    assert (ALONE.rank, ALONE.count) == (0, 1)


def test_torchs_group_of_one_is_one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        processes = Processes.of_torch()
        assert (processes.rank, processes.count) == (0, 1)
        assert torch.equal(processes.sum(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
    finally:
        dist.destroy_process_group()
