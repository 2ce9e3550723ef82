"""Twins of as many perturbations as are asked for, without cells to fit them on, and what is allocated for them."""

import torch
from linear_twin import linear_twin, normal
from torch.utils._python_dispatch import TorchDispatchMode

from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.combined_shifts import NUMBERS_OF_PARTS, ForetoldParts
from perturbrl.twins.response import ResponseTwin

DAMPING = torch.tensor([1.0, 0.9, 0.85, 0.8, 0.7])  # of the shares in combinations of 1, 2, 3, 4 and 8
LATENT = 6


def wide_response_twin(n, *, combinations=((0, 1),), n_members=1, n_contexts=1, several_doses=False, seed=0):
    """A twin of ``n`` perturbations, of which some were measured together, with a correction of length about 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    alone = draw(n, 1, n_contexts, 1, LATENT) * torch.rand(n, 1, 1, 1, 1, generator=generator)
    whole = alone * DAMPING[:, None] + 0.02 * draw(n, 1, n_contexts, len(NUMBERS_OF_PARTS), LATENT)
    levels = [[0.5, 1.0] if several_doses and i % 2 else [1.0] for i in range(n)]
    shares = [torch.cat([whole[i] * level**0.5 for level in own]) for i, own in enumerate(levels)]
    m = len(combinations)
    twin = ResponseTwin(n_members)
    told = ForetoldParts(
        levels,
        shares,
        0.2 * draw(n_members, n_contexts, n, LATENT),
        combinations,
        0.4 * draw(n_contexts, m, LATENT),
        0.2 * draw(n_members, n_contexts, m, LATENT),
        0.1 * torch.ones(n_contexts, LATENT),
    )
    twin.shifts.learn(told, 0)
    twin.set_buffers(middles=10 * torch.eye(n_contexts, LATENT))
    twin.contexts = tuple(f"context {i}" for i in range(n_contexts))
    twin.evidence = tuple("measured" if i % 3 else "prior" for i in range(n))
    twin._take(
        tuple(f"G{i}" for i in range(n)), [[1.0, 2.0] if len(own) > 1 else [] for own in levels], LATENT
    )
    return started(twin)


def started(twin, remembered=4):
    """The twin, ready to start from cells around the middles of its contexts."""
    twin.remember(remembered)
    middles = twin.middles
    twin.start_from(middles.repeat(30, 1) + 0.3 * normal(30 * len(middles), LATENT, seed=7))
    return twin


def wide_linear_twin(n, **space):
    """Independent effects of lengths between none and about 2."""
    return linear_twin(
        normal(n, LATENT) * torch.rand(n, 1, generator=torch.Generator().manual_seed(1)), **space
    )


def problem_on(twin: DigitalTwin, shift, horizon=3, limit=3, **prices) -> DesignProblem:
    """From start cells to the same cells moved by ``shift``."""
    start = twin.place(twin.start_cells)
    task, goal = ReachCellState(**prices), start + shift
    task.aim(start, goal)
    return DesignProblem(twin, task, twin.perturbations.restrict(max_perturbations=limit), horizon, goal)


class Allocations(TorchDispatchMode):
    """Remembers the largest dense tensor that anything makes.

    Attributes:
        largest: numbers in it.
    """

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        every = made if isinstance(made, tuple | list) else (made,)
        held = (one for one in every if isinstance(one, torch.Tensor) and one.layout is torch.strided)
        self.largest = max(
            [self.largest, *(one.untyped_storage().nbytes() // one.element_size() for one in held)]
        )
        return made
