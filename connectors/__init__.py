"""How changes come in: tables by Debezium, events of source systems, uploaded files.

Read in this order: `source.py` (a source's file, checked), `debezium.py` (its connector), `plan.py` and `apply.py`
(wanted against running), `publish.py` (events), `upload_api/` (files and documents over HTTP).
"""
