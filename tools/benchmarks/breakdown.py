"""Where an iteration's time goes, beside the time that its matrix products alone would need on this machine."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any, Final
from unittest.mock import patch

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.stopwatch import finish
from perturbrl.rl.rollouts import Rollouts
from perturbrl.training import algorithm
from perturbrl.training.algorithm import TwoStage
from perturbrl.training.two_stage import TwoStageModule

WATCHED: Final[dict[str, tuple[Any, str]]] = {
    "rollout": (Rollouts, "collect"),
    "advantages": (algorithm, "add_advantages"),
    "natural step": (TwoStage, "natural_step"),
    "PPO epochs": (TwoStage, "ppo_epochs"),
    "critic": (TwoStage, "critic_epochs"),
    "logging": (TwoStageModule, "_log_iteration"),
}
REST: Final = "everything else"
TRAINING_PARTS: Final = ("advantages", "natural step", "PPO epochs", "critic")


class Whole(Callback):
    """Seconds from the first epoch's start to the end of training, the trainer's own loop included."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finish()
        self.seconds = perf_counter() - self._started


class MatmulFlops(TorchDispatchMode):
    """Counts two operations for every multiplication of a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_", "bmm"):
            left, right = args[-2:]
            self.total += 2 * left.numel() * right.shape[-1]
        return func(*args, **(kwargs or {}))


class Parts:
    """Seconds, or operations, spent in each part of an iteration."""

    def __init__(self, *, count: bool = False) -> None:
        self._count = count
        self.seconds: dict[str, float] = defaultdict(float)
        self.flops: dict[str, int] = defaultdict(int)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Watch every ``TwoStageModule`` in this process."""
        patches = [
            patch.object(owner, name, self._watched(part, getattr(owner, name)))
            for part, (owner, name) in WATCHED.items()
        ]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()

    def _watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            finish()
            started = perf_counter()
            counter = MatmulFlops() if self._count else None
            with counter or nullcontext():
                result = function(*args, **kwargs)
            finish()
            self.seconds[part] += perf_counter() - started
            self.flops[part] += counter.total if counter else 0
            return result

        return run


def matmul_rate(device: str) -> float:
    """Operations per second of one large float32 matrix product, the best of several."""
    n = 1536
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    seconds = []
    for _ in range(8):
        finish()
        started = perf_counter()
        product: Tensor = a @ b
        finish()
        seconds.append(perf_counter() - started)
    assert product.isfinite().all()
    return 2 * n**3 / min(seconds)
