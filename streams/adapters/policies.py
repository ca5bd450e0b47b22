"""The knowledge bases' policies as capture and parse see them: what the topic `access` says at this very moment.

Before this: `thalweg access bases`, or a route, writes the topic. After this: `steps/protection.py`. What was accepted
before a policy was set, and is captured after it, is masked too; never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable

from runtime.directory import TOPIC, Directory
from runtime.privacy.policy import Policy
from runtime.topics import BrokerUnavailable, Topics
from streams.ports import TemporaryFailure

_LOOK_S = 5.0


class PolicyList:
    """Policies on a directory that this one starts and closes."""

    def __init__(self, directory: Directory, topics: Topics) -> None:
        self._directory = directory
        self._topics = topics

    def start(self, timeout_s: float) -> None:
        """Read them all. Raises BrokerUnavailable."""
        self._directory.start()
        if not self._directory.wait_ready(timeout_s):
            raise BrokerUnavailable(f"the topic `{TOPIC}` could not be read: run `thalweg topics apply`")

    def now(self) -> Callable[[str, str], Policy]:
        """As Policies.now. A knowledge base that nobody made has the policy that does nothing: nobody can read it."""
        try:
            ends = self._topics.offsets([TOPIC])
        except BrokerUnavailable as error:
            raise TemporaryFailure(str(error)) from error
        for (_, partition), end in ends.items():
            if not self._directory.wait_read(partition, end - 1, _LOOK_S):
                raise TemporaryFailure(f"the topic {TOPIC} could not be read to its end")

        def policy_of(tenant: str, knowledge_base: str) -> Policy:
            base = self._directory.base(tenant, knowledge_base)
            return Policy() if base is None else base.policy

        return policy_of

    def close(self) -> None:
        """Stop following."""
        self._directory.close()
