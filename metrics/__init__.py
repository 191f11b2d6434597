"""Metrics: a module per family. Each decorated function is found by `phonoscope.plugins`."""
