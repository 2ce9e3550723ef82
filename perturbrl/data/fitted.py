"""Modules whose buffers are learned from data."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FittedModule(nn.Module):
    """An ``nn.Module`` whose buffers get their shapes from data, or from a checkpoint.

    A constructor knows only options; ``fit`` (or an equivalent method of the subclass) fills the buffers.
    Loading a state dict takes over the shapes found there, so that a checkpoint restores a module that was
    never fitted in this process. Register a buffer that is not fitted yet as an empty tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_take_over_shapes)

    def take_over_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Give the buffers, and whatever else depends on them, the shapes of a state dict that is to be loaded.

        Args:
            state: this module's own entries.
        """
        for name, buffer in dict(self.named_buffers(recurse=False)).items():
            loaded = state.get(name)
            if loaded is not None and loaded.shape != buffer.shape:
                setattr(self, name, torch.empty_like(loaded, device=buffer.device))

    def set_buffers(self, **values: Tensor) -> None:
        """Replace registered buffers by copies of ``values``, on the device and in the dtype of the old ones.

        Raises:
            AttributeError: a name is not a registered buffer.
        """
        buffers = dict(self.named_buffers(recurse=False))
        for name, value in values.items():
            if name not in buffers:
                raise AttributeError(f"{type(self).__name__} has no buffer '{name}' to fit")
            setattr(self, name, value.detach().clone().to(self.get_buffer(name)))


def _take_over_shapes(
    module: FittedModule, state_dict: Mapping[str, Tensor], prefix: str, *_: object
) -> None:
    own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    module.take_over_shapes(own)
