"""The pure core: values in, values out. No I/O, no clock, no settings.

Order of reading: positions, changes, chunking, identity, versions.
"""
