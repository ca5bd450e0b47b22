"""The demonstration: texts that every machine has, live changes, a cited answer; each claim is checked as it is shown.

corpus.py (which texts) + files.py (as files) --> load.py (into the stack) --> play.py (what is shown of it)
"""
