"""The upload API (FastAPI, port 8001): files, documents and CloudEvents in, each answered once it is durable.

Read in this order: `app.py` (the whole), `receive.py` (a file from the wire to disk), `uploads.py`, `documents.py`,
`events.py` (the routes), `progress.py` (how far an upload came).
"""
