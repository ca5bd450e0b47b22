"""What a generation's group has read is forgotten with it: another of the same name begins at the start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer
from weaviate.client import WeaviateClient

from runtime.settings import Embedding, Weaviate
from runtime.topics import Topics
from runtime.weaviate import connect
from schemas.index.contract import Generation
from streams import generations
from streams.pipeline import side_group, stage
from streams.rebuilding.rebuild import Rebuild
from tests.integration.servers import RealServer, WeaviateServer, bootstrap_of
from tests.support.client import eventually

pytestmark = pytest.mark.real

DOCUMENTS = stage("index").reads
EMBEDDING = Embedding()


class LeavesWhenRefused(Topics):
    """Topics; the group's last member leaves just after the broker has refused to delete the group."""

    def __init__(self, bootstrap: str, member: Consumer) -> None:
        super().__init__(bootstrap)
        self.member: Consumer | None = member

    def delete_group(self, group: str) -> bool:
        deleted = super().delete_group(group)
        if not deleted and self.member is not None:
            self.member.close()
            self.member = None
        return deleted


@pytest.fixture
def bootstrap(kafka_server: RealServer) -> str:
    return bootstrap_of(kafka_server, "documents")


@pytest.fixture
def client(weaviate_server: WeaviateServer) -> Iterator[WeaviateClient]:
    """With a live generation, and without those that a test made."""
    link = connect(Weaviate(url=weaviate_server.url, grpc=weaviate_server.grpc, api_key=weaviate_server.key))
    before = generations.ensure(link, Generation("test", 4, "levels1-160", salt="groups")).name
    yield link
    for name in generations.standing(link).generations.keys() - {before}:
        generations.remove(link, name)
    link.close()


def rebuild_of(client: WeaviateClient, broker: Topics) -> Rebuild:
    return Rebuild(client, broker, say=lambda _: None, sleep=lambda _: None)


def has_read(broker: Topics, generation: Generation) -> bool:
    return any(lag.committed is not None for lag in broker.lag(side_group(generation.name), DOCUMENTS))


def read_all(broker: Topics, generation: Generation) -> None:
    """Its group stands at offset 0 of every partition, which is as good as any other."""
    broker.set_committed(side_group(generation.name), dict.fromkeys(broker.offsets(DOCUMENTS), 0))
    assert has_read(broker, generation)


def member_of(bootstrap: str, generation: Generation) -> Consumer:
    """A member of its group, which has its partitions."""
    member = Consumer({"bootstrap.servers": bootstrap, "group.id": side_group(generation.name)})
    member.subscribe(list(DOCUMENTS))

    def has_joined() -> bool:
        member.poll(0.1)
        return bool(member.assignment())

    eventually(has_joined, 30)
    return member


def test_a_group_whose_member_leaves_while_it_is_pruned_is_forgotten(client: WeaviateClient, bootstrap: str) -> None:
    made = rebuild_of(client, Topics(bootstrap)).start(EMBEDDING)
    read_all(Topics(bootstrap), made)
    broker = LeavesWhenRefused(bootstrap, member_of(bootstrap, made))

    rebuild_of(client, broker).prune(made.name)

    assert broker.member is None, "the broker refused nothing: the test saw nothing"
    assert not has_read(broker, made)


def test_a_generation_does_not_go_on_where_one_of_its_name_had_stopped(client: WeaviateClient, bootstrap: str) -> None:
    """A prune that died left the group; a group that still has members is not taken at all."""
    broker = Topics(bootstrap)
    first = rebuild_of(client, broker).start(EMBEDDING)
    read_all(broker, first)
    generations.remove(client, first.name)

    second = rebuild_of(client, broker).start(EMBEDDING)

    assert second.name == first.name
    assert not has_read(broker, second)
    generations.remove(client, second.name)
    member = member_of(bootstrap, second)
    try:
        third = rebuild_of(client, broker).start(EMBEDDING)
    finally:
        member.close()
    assert third.name != second.name
