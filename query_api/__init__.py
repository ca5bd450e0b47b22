"""How answers come out: search over the live generation, kept to what each caller may read, with citations.

Before it: Weaviate, written by the index stage, and nothing else on a query's way. Read `service.py` first, the way
of a question, then `retrieval/search.py`, `retrieval/visibility.py` (which hits count) and `bootstrap.py` (wiring).
"""
