"""How answers come out: search over the live generation, kept to what each caller may read, with citations.

Before it: Weaviate, written by the index stage, and nothing else on a query's way. Read `retrieval.py` first, then
`visibility.py` (which hits count), `weaviate_index.py` (the store), `routes.py` (HTTP) and `bootstrap.py` (wiring).
"""
