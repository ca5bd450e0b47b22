"""Hand-made defects in the code that keeps the promise, each of which the tests must notice: `python -m tests.mutation`.

Read `mutants.yaml` for the defects and `kill.py` for how one is tried.
"""
