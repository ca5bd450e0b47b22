"""Answers that are given again. Before it: `service.py`. After it: memory, or Redis."""
