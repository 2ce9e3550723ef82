"""Two processes with unequal batches take the same steps, and those of one process with all states."""

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn
from toy_policies import collect, flat_parameters, make_actor

from perturbrl.rl.outcomes import TrustRegionOutcome
from perturbrl.rl.processes import ALONE, Processes
from perturbrl.rl.trust_region import TrustRegion

KINDS = ["gaussian", "categorical", "state_dependent_gaussian", "checked_gaussian"]
PRECISION = {
    "gaussian": torch.float32,
    "categorical": torch.float64,
    "state_dependent_gaussian": torch.float64,
    "checked_gaussian": torch.float64,
}
SHARES = [(0, 37), (37, 100)]
N_STEPS = 20


def _train(kind, rows, processes=ALONE):
    """Parameters and results, as plain values, after steps on some of the rows of a batch."""
    actor, collector = (make_actor(kind, dtype=PRECISION[kind]) for _ in range(2))
    optimizer = TrustRegion(actor, max_kl=0.02, cg_damping=0.1, processes=processes)
    results = []
    for seed in range(N_STEPS):
        collector.load_state_dict(actor.state_dict())
        batch = collect(collector, 100, seed=seed)
        if seed == 5:
            batch["advantage"][-1] = float("nan")
        if seed == 7:
            batch["observation"][SHARES[1][0]] = float("nan")
        step = optimizer.step(batch=batch[rows])
        results.append({**vars(step), "outcome": step.outcome.value})
    return flat_parameters(actor), results, optimizer.param_groups[0]["outcomes"]


def _one_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.set_num_threads(1)
    first, last = SHARES[rank]
    trained = {kind: _train(kind, slice(first, last), Processes.of_torch()) for kind in KINDS}
    torch.save(trained, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    spawn(_one_rank, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree_bit_for_bit_and_with_one_process(ranks, kind):
    (first, results, outcomes), (second, other_results, other_outcomes) = (rank[kind] for rank in ranks)
    assert torch.equal(first.view(torch.int32), second.view(torch.int32))
    assert results == other_results
    assert outcomes == other_outcomes
    assert outcomes[TrustRegionOutcome.ACCEPTED.value] >= N_STEPS - 3
    alone, alone_results, _ = _train(kind, slice(None))
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-5)
    assert [r["outcome"] for r in results] == [r["outcome"] for r in alone_results]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_on_one_rank_is_an_outcome_on_both(ranks, kind):
    """Two batches have a NaN in the second rank's share; a distribution that checks refuses the one observed."""
    for step in (5, 7):
        assert [rank[kind][1][step]["outcome"] for rank in ranks] == [TrustRegionOutcome.NON_FINITE.value] * 2
