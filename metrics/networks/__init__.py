"""Architectures of networks that several metrics look through."""
