"""What one Fisher-vector product and one whole natural-gradient step cost, beside sb3-contrib's TRPO.

Times are taken in rounds: each round runs every candidate once, ratios are formed within a round and their median is
reported, so that a change of the machine's load falls on all candidates alike. sb3-contrib averages its KL over
action dimensions; its radius and damping are ours divided by their number.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from tensordict import TensorDict
from torch.profiler import ProfilerActivity, profile
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor

from benchmarks.peer import PeerTRPO
from perturbrl.rl.actor_distributions import distribution_of
from perturbrl.rl.fisher import ModuleLinearisation, linearise
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.policies import gaussian_actor
from perturbrl.rl.processes import ALONE
from perturbrl.rl.trust_region import TrustRegion

OBSERVATION_DIM, HIDDEN = 64, (256, 256)
MAX_KL, TRAINING_STEPS = 0.5, 15
CURVE_STEPS = (1, 2, 4, 8, 15)
# What counts as the same improvement per square root of KL.
SAME_GAIN = 0.999


def main(argv: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(prog="benchmark.py natural-step", description=__doc__).parse_args(argv)
    torch.manual_seed(0)
    result = product_costs() | peak_memory()
    problem = Problem.trained(16384, 200)
    curve(problem)
    print(json.dumps(result | race(problem)))


def make_actor(n_actions: int) -> ProbabilisticActor:
    return gaussian_actor(OBSERVATION_DIM, -torch.ones(n_actions), torch.ones(n_actions), HIDDEN)


def collect(actor: ProbabilisticActor, n_states: int) -> TensorDict:
    """Actions of the policy on a toy task: hit a smooth function of the observation in every dimension."""
    batch = TensorDict({"observation": torch.randn(n_states, OBSERVATION_DIM)}, [n_states])
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        actor(batch)
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(OBSERVATION_DIM, 64, generator=generator) * 1.5 / OBSERVATION_DIM**0.5
    second = torch.randn(64, batch["action"].shape[-1], generator=generator) / 4
    best = ((batch["observation"] @ first).tanh() @ second).tanh()
    reward = -(batch["action"] - best).square().mean(-1)
    batch["advantage"] = (reward - reward.mean()) / reward.std()
    return batch


def rounds(candidates: Sequence[Callable[[], object]], n_rounds: int) -> list[list[float]]:
    """Seconds of each candidate in each round, after one round to warm up."""
    times: list[list[float]] = [[] for _ in candidates]
    for index in range(n_rounds + 1):
        for candidate, seconds in zip(candidates, times, strict=True):
            start = perf_counter()
            candidate()
            if index > 0:
                seconds.append(perf_counter() - start)
    return times


def ratio(numerator: list[float], denominator: list[float]) -> float:
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def forward_backward(actor: ProbabilisticActor, batch: TensorDict) -> Callable[[], object]:
    """The policy gradient by autograd: distribution, log-probability, one backward pass."""
    parameters = list(actor.parameters())

    def run() -> object:
        log_prob = actor.get_dist(batch).log_prob(batch["action"])
        return torch.autograd.grad((log_prob * batch["advantage"]).mean(), parameters)

    return run


def network_alone(actor: ProbabilisticActor, batch: TensorDict) -> Callable[[], object]:
    """The same without the distribution: a given cotangent on the network's outputs."""
    parameters, module = list(actor.parameters()), actor.module[0].module
    cotangent = torch.randn_like(batch["action"])

    def run() -> object:
        loc, scale = module(batch["observation"])
        return torch.autograd.grad((loc * cotangent).sum() + scale[0].sum(), parameters)

    return run


def product_costs() -> dict[str, float]:
    """Fisher-vector products against one forward and backward pass."""
    table = Table(
        "states",
        "actions",
        "fwd+bwd ms",
        "network alone ms",
        "by hand",
        "any module",
        "by hand / network alone",
    )
    by_hand, any_module, alone = [], [], []
    for n_states, n_rounds in ((2048, 40), (16384, 9)):
        for n_actions in (50, 200):
            actor = make_actor(n_actions)
            batch, layout = collect(actor, n_states), FlatLayout(list(actor.parameters()))
            v = torch.randn(layout.size)
            with torch.no_grad():
                hand, module = (
                    linearise(actor, layout, batch, ALONE),
                    ModuleLinearisation(actor, layout, batch),
                )
            candidates = [
                forward_backward(actor, batch),
                network_alone(actor, batch),
                torch.no_grad()(lambda hand=hand, v=v: hand.fisher_product(v)),
                torch.no_grad()(lambda module=module, v=v: module.fisher_product(v)),
            ]
            both, network, one, other = rounds(candidates, n_rounds)
            by_hand.append(ratio(one, both))
            any_module.append(ratio(other, both))
            alone.append(ratio(one, network))
            milliseconds = [f"{1e3 * median(t):.1f}" for t in (both, network)]
            ratios = [f"{values[-1]:.2f}" for values in (by_hand, any_module, alone)]
            table.add_row(str(n_states), str(n_actions), *milliseconds, *ratios)
    Console().print("One Fisher-vector product against one forward+backward (median ratio)", table)
    return {
        "fvp_over_fwdbwd": max(by_hand),
        "generic_fvp_over_fwdbwd": max(any_module),
        "fvp_over_network_fwdbwd": max(alone),
    }


def peak_memory() -> dict[str, float]:
    """Largest memory held during a whole step against one forward and backward pass."""
    actor = make_actor(200)
    batch = collect(actor, 16384)
    backward = allocated_peak(forward_backward(actor, batch))
    step = allocated_peak(lambda: TrustRegion(actor, MAX_KL, cg_damping=1.0).step(batch=batch))
    print(
        f"Peak memory at 16,384 states and 200 actions: step {step / 2**20:.0f} MiB, "
        f"forward+backward {backward / 2**20:.0f} MiB"
    )
    return {"peak_memory_over_fwdbwd": step / backward}


def allocated_peak(run: Callable[[], object]) -> int:
    """Largest sum of live tensor bytes allocated since the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


@dataclass
class Problem:
    """A policy, the batch it collected, and its weights to return to."""

    actor: ProbabilisticActor
    batch: TensorDict

    def __post_init__(self) -> None:
        self._layout = FlatLayout(list(self.actor.parameters()))
        self._start = self._layout.gather()

    @staticmethod
    def trained(n_states: int, n_actions: int) -> "Problem":
        """A policy some way into learning, where the Fisher matrix is harder than at the start."""
        actor = make_actor(n_actions)
        optimizer = TrustRegion(actor, max_kl=1.0, cg_damping=1.0)
        for _ in range(TRAINING_STEPS):
            optimizer.step(batch=collect(actor, 4096))
        return Problem(actor, collect(actor, n_states))

    def restore(self) -> None:
        self._layout.assign(self._start)

    @torch.no_grad()
    def gain(self) -> float:
        """Improvement of the surrogate per square root of KL in nats, on the whole batch, of the last step.

        The step is first shortened to half of the radius, because the improvement is not quite linear in its
        length and every method stops at another length.
        """
        step = self._layout.gather() - self._start
        self.restore()
        old = distribution_of(self.actor, self.batch).detached()
        kl, rise = torch.tensor(1.0), torch.tensor(0.0)
        for _ in range(4):
            self._layout.assign(self._start + step)
            new = distribution_of(self.actor, self.batch)
            kl = old.kl_to(new).mean()
            log_ratio = new.log_prob(self.batch["action"]) - old.log_prob(self.batch["action"])
            rise = (log_ratio.expm1() * self.batch["advantage"]).mean()
            step = step * (MAX_KL / 2 / kl).sqrt()
        return float(rise / kl.sqrt())

    def stepper(self, damping: float, n_steps: int, precondition: bool) -> Callable[[], float]:
        """Take a step from the start; returns its seconds."""
        optimizer = TrustRegion(
            self.actor,
            MAX_KL,
            cg_damping=damping,
            cg_max_steps=n_steps,
            cg_tolerance=0.0,
            precondition=precondition,
        )

        def run() -> float:
            self.restore()
            start = perf_counter()
            optimizer.step(batch=self.batch)
            return perf_counter() - start

        return run


def curve(problem: Problem) -> None:
    """Gain against time for plain and preconditioned conjugate gradient."""
    table = Table("damping", "preconditioned", *(f"{n} steps" for n in CURVE_STEPS))
    for damping in (0.01, 0.1, 1.0, 10.0):
        for precondition in (False, True):
            cells = []
            for n_steps in CURVE_STEPS:
                seconds = problem.stepper(damping, n_steps, precondition)()
                cells.append(f"{problem.gain():.3f} in {seconds:.2f} s")
            table.add_row(str(damping), str(precondition), *cells)
    Console(width=160).print("Improvement per square root of KL, and seconds of one step", table)


def race(problem: Problem) -> dict[str, float]:
    """Our step against the peer's at its default of 15 iterations, at a damping of 1 in our units."""
    problem.restore()
    peer = PeerTRPO(problem.actor, problem.batch, max_kl=MAX_KL, damping=1.0)
    peer.step()
    peer.copy_to(problem.actor)
    peer_gain = problem.gain()
    n_steps, gain = fewest_steps(problem, SAME_GAIN * peer_gain)
    ours, same = problem.stepper(1.0, n_steps, True), problem.stepper(1.0, 15, False)
    peers, bests, sames = rounds([peer.step, ours, same], 3)
    table = Table("step", "seconds", "gain")
    same()
    table.add_row("sb3-contrib, 15 iterations", f"{median(peers):.2f}", f"{peer_gain:.4f}")
    table.add_row(f"preconditioned, {n_steps} iterations", f"{median(bests):.2f}", f"{gain:.4f}")
    table.add_row("plain, 15 iterations", f"{median(sames):.2f}", f"{problem.gain():.4f}")
    Console().print("Whole step at 16,384 states, 200 actions, damping 1", table)
    return {
        "speedup_at_equal_gain": ratio(peers, bests),
        "speedup_same_iterations": ratio(peers, sames),
        "iterations_at_equal_gain": n_steps,
        "gain": gain,
        "peer_gain": peer_gain,
    }


def fewest_steps(problem: Problem, wanted: float) -> tuple[int, float]:
    """The fewest preconditioned iterations that gain at least as much as wanted."""
    for n_steps in range(1, 16):
        problem.stepper(1.0, n_steps, True)()
        gain = problem.gain()
        if gain >= wanted:
            return n_steps, gain
    raise SystemExit(f"no number of iterations up to 15 gains {wanted:.4f}; the last gained {gain:.4f}")
