"""Digital twins, tasks and the TorchRL environment that joins them."""
