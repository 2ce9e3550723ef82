import pytest
import torch

from perturbrl.twins.dose_memory import DoseMemory


@pytest.mark.parametrize(("n", "most", "width"), [(4, 2, 4), (4, 4, 4), (5, 2, 4), (2000, 2, 4)])
def test_it_holds_as_few_columns_as_will_do(n: int, most: int, width: int) -> None:
    assert DoseMemory(n, most).width == width


@pytest.mark.parametrize("n", [4, 9, 2000])
def test_what_is_put_in_comes_out(n: int) -> None:
    memory, doses = DoseMemory(n, 2), torch.zeros(5, n)
    doses[0, 0], doses[1, n - 1], doses[2, [0, 3]] = 0.5, 1.0, torch.tensor([0.2, 0.7])
    doses[3, [1, n - 1]] = 1.0
    columns = memory.columns(doses)
    assert columns.shape == (5, memory.width)
    assert torch.equal(memory.highest(columns), doses)


def test_of_more_than_fit_the_highest_are_known() -> None:
    memory, doses = DoseMemory(9, 2), torch.tensor([[0.1, 0.9, 0.0, 0.5, 0.3, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(memory.highest(memory.columns(doses)), doses * (doses >= 0.5))
