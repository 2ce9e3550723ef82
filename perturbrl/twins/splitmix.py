"""Random bits that are a function of whole numbers, in tensors: equal on every device and in every version."""

from jaxtyping import Int
from torch import Tensor

Seeds = Int[Tensor, " seeds"]

_GAMMA = 0x9E3779B97F4A7C15


def random_bits(seeds: Seeds, draw: int) -> Seeds:
    """64 random bits per seed, the ``draw``-th number of its stream.

    Source: SplitMix64; Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    bits = seeds + _signed(_GAMMA * (draw + 1))
    bits = (bits ^ shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ shifted(bits, 31)


def shifted(bits: Seeds, by: int) -> Seeds:
    """The bits shifted to the right, zeros coming in (a tensor's own shift brings in ones before a negative number)."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The number modulo 2^64 as a signed 64-bit integer, the only kind that tensors have."""
    return (number + 2**63) % 2**64 - 2**63
