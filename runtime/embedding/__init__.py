"""The one seam for embedding models: indexing and asking go through the very same code.

Before it: settings and, for the local model, the set-up step that builds it. After it: the index
stage (documents) and the query API (questions). Start reading at `contract`.
"""
