"""The index contract: which collections exist, which properties they have, how they are named.

Written by `streams`, read by `query_api`; nothing else lies between the two.
"""
