"""The images: from the lock, as an ordinary account, and each with no more than it needs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.images import packages
from tests.deploy import compose_file
from tests.deploy.compose_file import ROOT
from tests.deploy.dockerfile import CONNECT, THALWEG, image_setting, lineage, stages


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return compose_file.load_services()


@pytest.mark.parametrize("dockerfile", [THALWEG, CONNECT])
def test_what_is_copied_should_exist_and_be_let_in(dockerfile: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = 0
    for name, (_, made) in stages(dockerfile).items():
        for word, rest in made:
            if word not in {"COPY", "ADD"}:
                continue
            words = rest.split()
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in stages(dockerfile), (name, rest)
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), (name, source)
                assert source.split("/")[0] in allowed, f"{source} is kept out by .dockerignore"
                copied += 1
    assert copied > 3


def test_our_images_should_run_as_an_ordinary_account(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if build := service.get("build"):
            user = image_setting(build["dockerfile"], build.get("target"), "USER")
            assert user is not None
            assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), name
            assert "user" not in service, name


@pytest.mark.parametrize("dockerfile", [THALWEG, CONNECT])
def test_base_images_should_be_pinned_and_no_registry_named(dockerfile: str) -> None:
    for base, _ in stages(dockerfile).values():
        assert base in stages(dockerfile) or re.fullmatch(r"[a-z]+(/[a-z]+)?:\d+\.\d+[\w.-]*", base), base
    text = (ROOT / dockerfile).read_text()
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text)
    installs = re.findall(r"pip install .+", text)
    assert installs
    assert all("--require-hashes --only-binary :all:" in line for line in installs)


def test_each_image_should_hold_only_the_code_of_its_own_packages() -> None:
    def code(target: str) -> set[str]:
        copies = [rest.split() for word, rest in lineage(THALWEG, target) if word == "COPY"]
        return {words[0] for words in copies if not words[0].startswith("--")}

    ground = {"schemas", "runtime", "thalweg"}
    assert code("streams") == ground | {"streams"}
    assert code("upload") == ground | {"connectors"}
    assert code("query") == ground | {"query_api"}
    assert code("tools") == ground | {"streams", "connectors", "query_api"}


@pytest.mark.parametrize(
    ("dockerfile", "target", "modules"),
    [
        (THALWEG, "streams", ["streams.commands", "streams.bootstrap"]),
        (THALWEG, "upload", ["connectors.upload_api.main"]),
        (THALWEG, "query", ["query_api.bootstrap"]),
        (THALWEG, "tools", ["connectors.commands", "query_api.commands", "runtime.commands", "streams.commands"]),
        (THALWEG, "model", ["deploy.local.parts", "runtime.embedding.local_build"]),
        (CONNECT, "jars", ["deploy.local.parts"]),
    ],
)
def test_the_code_in_an_image_should_need_none_that_is_not_there(
    dockerfile: str, target: str, modules: list[str], tmp_path: Path
) -> None:
    for word, rest in lineage(dockerfile, target):
        if word != "COPY" or rest.startswith("--"):
            continue
        *sources, into = rest.split()
        for source in sources:
            place = tmp_path / (into + Path(source).name if into.endswith("/") else into)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(ROOT / source)
    # The checkout may be installed here: what is imported from there would be missing in the image.
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    code = f"import sys, {', '.join(modules)}\n"
    code += f"print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in {ours!r}), sep=chr(10))"
    command = [sys.executable, "-P", "-c", code]
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert len(imported) > len(modules)
    assert [file for file in imported if not Path(file).is_relative_to(tmp_path)] == []


@pytest.mark.parametrize("image", packages.IMAGES)
def test_the_list_of_an_images_packages_should_be_fresh(image: str) -> None:
    assert packages.list_of(image).read_text() == packages.written(image), "run: python -m deploy.images.packages"


@pytest.mark.parametrize("image", packages.IMAGES)
def test_each_package_of_an_image_should_be_pinned_with_hashes(image: str) -> None:
    names = packages.list_of(image).read_text().split()
    blocks = packages.chosen((ROOT / "requirements.lock").read_text(), names)
    pins = re.findall(r"^([A-Za-z0-9._-]+)==", blocks, re.MULTILINE)
    assert {re.sub(r"[-_.]+", "-", pin).lower() for pin in pins} == set(names)
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", blocks.strip()))


def test_the_query_image_should_carry_neither_faust_nor_the_parsers() -> None:
    query = set(packages.list_of("query").read_text().split())
    assert {"fastapi", "weaviate-client", "onnxruntime", "cohere"} <= query
    assert not {"faust-streaming", "mode-streaming", "aiokafka", "unstructured", "spacy", "pandas", "torch"} & query
    assert {"faust-streaming", "unstructured", "spacy"} <= set(packages.list_of("streams").read_text().split())


def test_choosing_from_the_lock_should_keep_every_variant_of_a_package_and_refuse_an_unknown_one() -> None:
    blocks = ['a==1 ; python_version < "3.12"', "a==2", "b_c==3"]
    lock = "".join(f"{pin} \\\n    --hash=sha256:{number}\n" for number, pin in enumerate(blocks))
    assert packages.chosen(lock, ["a"]) == lock[: lock.index("b_c")]
    assert packages.chosen(lock, ["b-c"]) == lock[lock.index("b_c") :]
    with pytest.raises(KeyError):
        packages.chosen(lock, ["d"])
