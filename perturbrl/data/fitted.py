"""Modules whose buffers are learned from data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class FittedModule(nn.Module):
    """An ``nn.Module`` whose buffers get their shapes from data, or from a checkpoint.

    A constructor knows only options; ``fit`` (or an equivalent method of the subclass) fills the buffers.
    Loading a state dict takes over the shapes found there, so that a checkpoint restores a module that was
    never fitted in this process. Register a buffer that is not fitted yet as an empty tensor.
    """

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in self._buffers.items():
            loaded = state_dict.get(prefix + name)
            if buffer is not None and loaded is not None and loaded.shape != buffer.shape:
                setattr(self, name, torch.empty_like(loaded, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_buffers(self, **values: Tensor) -> None:
        """Replace registered buffers by copies of ``values``, on the device and in the dtype of the old ones.

        Raises:
            AttributeError: a name is not a registered buffer.
        """
        for name, value in values.items():
            if name not in self._buffers:
                raise AttributeError(f"{type(self).__name__} has no buffer '{name}' to fit")
            setattr(self, name, value.detach().clone().to(self.get_buffer(name)))
