"""The embedded default: the real servers and our own processes on this machine, under one supervisor.

Read in this order: `parts` gets what the servers are made of into a cache; `kafka`, `connect`, `registry`,
`weaviate` and `postgres` say how each is run; `supervisor` starts them, restarts what dies and stops them;
`stack` is the door for Python callers and `commands` the one for people; `doctor` tells what is wrong.
"""
