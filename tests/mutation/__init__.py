"""Defects made by hand in the code that keeps the promise; the tests must notice each: `python -m tests.mutation`.

Read `mutants.yaml` for the defects and `kill.py` for how one is tried.
"""
