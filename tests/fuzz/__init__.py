"""Fuzzing by coverage (atheris, libFuzzer): what takes bytes of strangers neither fails nor hangs.

`python -m tests.fuzz TARGET [--runs N]` looks for more; `test_fuzz.py` is a short look at each, in `make test`.
"""
