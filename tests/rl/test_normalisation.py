"""Running moments are those of everything seen, however it was shared out, and leave the perceptron known."""

import torch
from tensordict import TensorDict
from toy_policies import OBSERVATION_DIM

from perturbrl.rl.fisher import MLPLinearisation, ModuleLinearisation, linearise, mlp_structure
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.policies import categorical_actor, gaussian_actor
from perturbrl.rl.processes import ALONE, Processes

BATCHES = [
    torch.randn(n, OBSERVATION_DIM, generator=torch.Generator().manual_seed(n)) * 3 + 100
    for n in (7, 64, 300)
]


def test_moments_are_those_of_all_observations_together() -> None:
    normaliser = ObservationNormaliser(OBSERVATION_DIM)
    for batch in BATCHES:
        normaliser.update(batch, ALONE)
    seen = torch.cat(BATCHES).double()
    torch.testing.assert_close(normaliser.mean.double(), seen.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(normaliser.std.double(), seen.std(0, correction=0), rtol=1e-5, atol=0)
    scaled = normaliser(torch.cat(BATCHES))
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(OBSERVATION_DIM), rtol=1e-4, atol=0)


def test_processes_share_the_moments() -> None:
    """The sum over processes of what each saw stands in for a reduction."""
    alone, shared = ObservationNormaliser(OBSERVATION_DIM), ObservationNormaliser(OBSERVATION_DIM)
    for batch in BATCHES:
        alone.update(batch, ALONE)
        others = _sums(shared, batch[2:])
        shared.update(batch[:2], Processes(others.add))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)


def _sums(normaliser: ObservationNormaliser, observation: torch.Tensor) -> torch.Tensor:
    """What a process that sees ``observation`` gives to the reduction."""
    given: list[torch.Tensor] = []
    probe = ObservationNormaliser(OBSERVATION_DIM)
    probe.load_state_dict(normaliser.state_dict())
    probe.update(observation, Processes(lambda total: given.append(total.clone()) or total))
    return given[0]


def test_what_never_varies_is_centred_only() -> None:
    normaliser = ObservationNormaliser(2)
    normaliser.update(torch.tensor([[5.0, 1.0], [5.0, 3.0]]), ALONE)
    assert normaliser(torch.tensor([[5.0, 3.0]])).tolist() == [[0.0, 1.0]]


def test_the_hand_written_fisher_product_sees_through_it() -> None:
    low, high = -torch.ones(3), torch.ones(3)
    for build in (
        lambda n: gaussian_actor(OBSERVATION_DIM, low, high, (6, 5), normaliser=n),
        lambda n: categorical_actor(OBSERVATION_DIM, 5, (6, 5), n),
    ):
        torch.manual_seed(0)
        normaliser = ObservationNormaliser(OBSERVATION_DIM)
        normaliser.update(BATCHES[1], ALONE)
        actor = build(normaliser)
        structure = mlp_structure(actor)
        assert structure is not None
        assert structure.layers.normaliser is normaliser
        batch = TensorDict({"observation": BATCHES[1]}, [len(BATCHES[1])])
        layout = FlatLayout(list(actor.parameters()))
        v = torch.randn(layout.size)
        with torch.no_grad():
            by_hand = linearise(actor, layout, batch, ALONE)
            assert isinstance(by_hand, MLPLinearisation)
            product = by_hand.fisher_product(v)
        expected = ModuleLinearisation(actor, layout, batch).fisher_product(v)
        torch.testing.assert_close(product, expected, rtol=1e-3, atol=1e-3)
