"""Ports: the remembered one, the usual one, a free one."""

import socket
from pathlib import Path

import pytest

from deploy.local.errors import LocalStackError
from deploy.local.ports import DEFAULTS, FREE, Claims, choose, is_free, recall, remember


def always(_port: int) -> bool:
    return True


def test_the_usual_port_should_be_taken_where_it_is_free() -> None:
    assert choose(["kafka"], {}, free=always) == {"kafka": 9092}


def test_the_remembered_port_should_be_kept() -> None:
    assert choose(["kafka"], {"kafka": 21_000}, free=always) == {"kafka": 21_000}


def test_a_taken_port_should_be_replaced_by_a_free_one() -> None:
    chosen = choose(["kafka"], {"kafka": 21_000}, free=lambda port: port not in {9092, 21_000})
    assert chosen["kafka"] in FREE
    assert chosen["kafka"] != 21_000


def test_two_names_should_never_share_a_port() -> None:
    draws = iter([25_000, 25_000, 25_001])
    assert choose(["a", "b"], {}, defaults={}, free=always, draw=lambda: next(draws)) == {"a": 25_000, "b": 25_001}


def test_no_free_port_should_be_an_error_that_names_what_wanted_one() -> None:
    with pytest.raises(LocalStackError, match="No free port for kafka"):
        choose(["kafka"], {}, free=lambda _port: False)


def test_a_listened_port_should_not_be_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_a_port_claimed_by_another_stack_should_be_refused_until_it_is_given_back(tmp_path: Path) -> None:
    ours, theirs = Claims(tmp_path), Claims(tmp_path)
    assert ours.claim(9092)
    assert ours.claim(9092)
    assert not theirs.claim(9092)
    ours.release()
    assert theirs.claim(9092)


def test_ports_should_be_remembered_beside_those_of_earlier_starts(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    assert recall(file) == {}
    remember(file, {"kafka": 1, "postgres": 2})
    remember(file, {"kafka": 3})
    assert recall(file) == {"kafka": 3, "postgres": 2}
    file.write_text("half a fi")
    assert recall(file) == {}


def test_usual_ports_should_all_differ() -> None:
    assert len(set(DEFAULTS.values())) == len(DEFAULTS)
