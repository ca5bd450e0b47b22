"""Programs are found, and old ones are passed over."""

from pathlib import Path

import pytest

from deploy.local.errors import SetupError
from deploy.local.toolchain import find_go, find_java, find_maven, find_postgres


def program(file: Path, says: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    file.chmod(0o755)
    return file


def java(folder: Path, version: str) -> Path:
    return program(folder / "bin" / "java", f'openjdk version "{version}" 2026-01-01')


def test_an_old_java_on_path_should_be_passed_over_for_a_newer_one_of_the_system(tmp_path: Path) -> None:
    old = java(tmp_path / "old", "17.0.15")
    new = java(tmp_path / "jvm" / "jdk-25", "25.0.1")
    assert find_java({"PATH": str(old.parent)}, tmp_path / "jvm") == new


def test_java_home_should_come_first(tmp_path: Path) -> None:
    chosen = java(tmp_path / "chosen", "21.0.2")
    other = java(tmp_path / "other", "25")
    assert find_java({"JAVA_HOME": str(tmp_path / "chosen"), "PATH": str(other.parent)}, tmp_path) == chosen


def test_no_java_should_be_none(tmp_path: Path) -> None:
    java(tmp_path / "jvm" / "jdk-17", "17.0.1")
    assert find_java({"PATH": str(tmp_path)}, tmp_path / "jvm") is None


def test_the_newest_database_of_debian_should_be_found_without_path(tmp_path: Path) -> None:
    for version in ("9.6", "13", "15"):
        program(tmp_path / version / "bin" / "postgres", f"postgres (PostgreSQL) {version}.1")
        program(tmp_path / version / "bin" / "initdb", "initdb")
    assert find_postgres({"PATH": ""}, tmp_path) == tmp_path / "15" / "bin"


def test_a_database_that_is_too_old_should_not_be_used(tmp_path: Path) -> None:
    program(tmp_path / "13" / "bin" / "postgres", "postgres (PostgreSQL) 13.2")
    program(tmp_path / "13" / "bin" / "initdb", "initdb")
    assert find_postgres({"PATH": ""}, tmp_path) is None


def test_an_old_go_should_not_be_used(tmp_path: Path) -> None:
    program(tmp_path / "go", "go version go1.19.8 linux/amd64")
    found = find_go({"PATH": str(tmp_path)})
    assert found is None or found.parent != tmp_path


def test_missing_maven_should_be_an_error_with_the_line_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"apt-get install .*maven"):
        find_maven({"PATH": str(tmp_path)})
