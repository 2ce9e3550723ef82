"""A Kronecker-factored approximation of a multilayer perceptron's Fisher matrix, to precondition with.

The block of one layer is taken as G ⊗ A, with A the second moment of the layer's input (with a 1 for the bias) and
G that of the loss with respect to its output (Martens and Grosse 2015). G is passed down from layer to layer by
G ← (Wᵀ G W) ∘ E[φ' φ'ᵀ], which needs no sampling and no backward pass (Botev, Ritter and Barber 2017) and is exact
for the last hidden layer of a Gaussian whose deviation does not depend on the state. (G ⊗ A + λI)⁻¹ is applied in
the eigenbases of G and A, without further approximation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.rl.fisher import MLPLinearisation
from perturbrl.rl.flat import Vector

OutputMoment = Float[Tensor, "outputs outputs"]
InputMoment = Float[Tensor, "inputs inputs"]


@dataclass(frozen=True)
class _Block:
    """(G ⊗ A + λI)⁻¹ of one layer, in the eigenbases of G and A."""

    of_output: OutputMoment
    of_input: InputMoment
    inverse: Float[Tensor, "outputs inputs"]

    def solve(self, gradient: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        rotated = self.of_output.t() @ gradient @ self.of_input
        return self.of_output @ rotated.mul_(self.inverse) @ self.of_input.t()


class KroneckerPreconditioner:
    """v ↦ M⁻¹ v with M the block-diagonal Kronecker-factored Fisher matrix plus λI.

    Args:
        policy: the linearised multilayer perceptron.
        mean: turns a sum over this rank's states into a mean over the states of all ranks.
        damping: λ; eigenvalues below 10⁻⁶ of the largest are lifted to that, so that λ may be 0.
    """

    def __init__(self, policy: MLPLinearisation, mean: Callable[[Tensor], Tensor], damping: float) -> None:
        self._policy, self._damping = policy, damping
        inputs = [mean(moment) for moment in policy.input_moments()]
        slopes = [mean(moment) for moment in policy.slope_moments()]
        output = mean(policy.output_fisher())
        self._blocks = [_block(output, inputs[-1], damping)]
        for weight, slope, moment in zip(policy.weights[:0:-1], slopes[::-1], inputs[-2::-1], strict=True):
            output = (weight.t() @ output @ weight).mul_(slope)
            self._blocks.insert(0, _block(output, moment, damping))

    def __call__(self, v: Vector) -> Vector:
        """M⁻¹ v; the deviation of a Gaussian has the exact curvature 2 + λ."""
        result = v / (2 + self._damping)
        layers = zip(self._blocks, self._policy.in_order(v), self._policy.in_order(result), strict=True)
        for block, (weight, bias), (weight_out, bias_out) in layers:
            solved = block.solve(torch.cat([weight, bias[:, None]], 1))
            weight_out.copy_(solved[:, :-1])
            bias_out.copy_(solved[:, -1])
        return result


def _block(of_output: OutputMoment, of_input: InputMoment, damping: float) -> _Block:
    g, g_basis = torch.linalg.eigh(of_output)
    a, a_basis = torch.linalg.eigh(of_input)
    eigenvalues = g.clamp(min=0)[:, None] * a.clamp(min=0) + damping
    floor = (1e-6 * eigenvalues.max()).clamp(min=1e-12)
    return _Block(g_basis, a_basis, eigenvalues.clamp(min=floor).reciprocal())
