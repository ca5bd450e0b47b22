"""From an uploaded file's bytes to text with structure, in limited child processes.

The rest of `streams` uses `pool.ParserPool` and `result`; everything else runs in the child.
"""
