"""Boards: a folder each, with `protocol.yaml`, `published.csv` and `README.md`."""
