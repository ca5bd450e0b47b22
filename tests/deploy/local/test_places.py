"""Files of a stack: who may read them, and that they are whole."""

from pathlib import Path

from deploy.local.logs import CappedLog, tail
from deploy.local.parts import cache_dir
from deploy.local.places import Home, keep_secret, replace_file


def test_secrets_should_be_made_once_and_be_readable_by_their_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    key = home.demo_key_file.read_text()
    home.make()
    assert home.demo_key_file.read_text() == key
    assert key.startswith("tw_")
    for file in (
        home.demo_key_file,
        home.weaviate_key_file,
        home.postgres_password_file,
        home.mask_key_file,
        home.seal_keys_file,
    ):
        assert file.stat().st_mode & 0o777 == 0o600
    assert home.secrets.stat().st_mode & 0o777 == 0o700


def test_a_kept_secret_should_win_over_a_new_one(tmp_path: Path) -> None:
    assert keep_secret(tmp_path / "secret", "first") == "first"
    assert keep_secret(tmp_path / "secret", "second") == "first"


def test_a_replaced_file_should_leave_no_draft(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", "one")
    replace_file(tmp_path / "file", "two")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "two")]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_log_should_never_grow_beyond_two_files_of_its_limit(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "x.log", max_bytes=100)
    for number in range(30):
        log.write(f"line number {number:03}\n".encode())
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    assert all(file.stat().st_size <= 100 for file in tmp_path.iterdir())
    assert tail(tmp_path / "x.log", 1) == "line number 029"


def test_a_log_should_go_on_where_it_ended(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        log = CappedLog(tmp_path / "x.log")
        log.write(text)
        log.close()
    assert tail(tmp_path / "x.log") == "one\ntwo"


def test_the_tail_of_no_log_should_be_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log") == ""


def test_the_cache_should_lie_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_dir({"THALWEG_CACHE": str(tmp_path)}) == tmp_path
    assert cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "thalweg"
    assert cache_dir({}) == Path.home() / ".cache" / "thalweg"
