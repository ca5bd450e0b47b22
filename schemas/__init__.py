"""The contracts: topics, records and the index. Everything else stands on this package; it stands on nothing.

Read on in `catalog.py` (topics), `records.py` (what they carry), `codec.py` (bytes), `index/` (collections).
"""
