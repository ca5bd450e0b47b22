"""A writer to be killed: `python -m tests.security.canary_writer URL GRPC ALIAS`, the server's key on stdin.

It writes new versions of every tenant's documents until it dies, and says so after the first.
"""

from __future__ import annotations

import itertools
import sys

from tests.integration.index_writer import IndexWriter
from tests.integration.servers import WeaviateServer
from tests.security.canaries import TENANTS, versions

if __name__ == "__main__":
    url, grpc, alias = sys.argv[1:]
    writer = IndexWriter.joined(WeaviateServer(url, grpc, sys.stdin.readline().strip()), alias)
    for major in itertools.count(100):
        for tenant in TENANTS:
            for version in versions(tenant, major):
                writer.write(version)
                print("written", flush=True)
