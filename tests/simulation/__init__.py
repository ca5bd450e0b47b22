"""T0: the real stages over fake ports, every history a function of its seed, the judge a plain model of the sources.

Order of reading: `histories.py` (what can happen), `sources.py` (what the sources do), `broker.py`, `store.py`,
`process.py` (a worker, and where it may die), `world.py` (all of it together), `judge.py` (what must hold).
`python -m tests.simulation --help` runs as many histories as one likes.
"""
