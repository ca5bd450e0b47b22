"""Personal data: what a knowledge base's policy says of it, how it is found, and what takes its place.

Before this: `../access.py` keeps a policy with each knowledge base. After this: the capture and parse stages mask
before anything is written to `documents`; the query API masks a question alike, so that equal values are found.
"""
