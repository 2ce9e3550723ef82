import pytest
import torch

from perturbrl.data.fitted import FittedModule


class Scaler(FittedModule):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.empty(0))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def fitted(width=3):
    module = Scaler()
    module.set_buffers(scale=torch.arange(1.0, width + 1), count=torch.tensor(7))
    return module


def test_an_unfitted_module_takes_over_shapes_and_values():
    module = Scaler()
    module.load_state_dict(fitted().state_dict())
    assert torch.equal(module.scale, torch.tensor([1.0, 2.0, 3.0]))
    assert module.count == 7


def test_a_module_fitted_otherwise_takes_over_shapes_too():
    module = fitted(width=5)
    module.load_state_dict(fitted(width=2).state_dict())
    assert torch.equal(module.scale, torch.tensor([1.0, 2.0]))


def test_it_works_inside_another_module():
    outer = torch.nn.Sequential(Scaler(), Scaler())
    outer.load_state_dict(torch.nn.Sequential(fitted(2), fitted(4)).state_dict())
    assert [len(module.scale) for module in outer] == [2, 4]


def test_loaded_tensors_are_copies():
    source, module = fitted(), Scaler()
    module.load_state_dict(source.state_dict())
    source.scale.zero_()
    assert module.scale.tolist() == [1.0, 2.0, 3.0]


def test_set_buffers_copies_and_keeps_dtype():
    values = torch.tensor([1.0, 2.0], dtype=torch.float64)
    module = Scaler()
    module.set_buffers(scale=values)
    values.zero_()
    assert module.scale.dtype is torch.float32
    assert module.scale.tolist() == [1.0, 2.0]
    assert "scale" in module.state_dict()


def test_set_buffers_keeps_the_device():
    module = Scaler().to("meta")
    module.set_buffers(scale=torch.ones(4))
    assert module.scale.device.type == "meta"


def test_an_unknown_buffer_is_refused():
    with pytest.raises(AttributeError, match="Scaler has no buffer 'offset'"):
        Scaler().set_buffers(offset=torch.ones(1))


def test_a_missing_entry_is_still_an_error():
    with pytest.raises(RuntimeError, match="scale"):
        Scaler().load_state_dict({"count": torch.tensor(1)})
