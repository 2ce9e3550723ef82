"""Lightning: data module, two-stage module, callbacks, reporting."""
