"""Two populations of cells a known distance apart."""

import torch

SPREAD = torch.linspace(2.0, 0.3, 20)


def populations(n, m, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, 20, generator=generator) * SPREAD for k in (n, m))
    y[:, 3] += shift
    return x, y
