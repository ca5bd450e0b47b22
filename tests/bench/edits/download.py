"""Fetches source distributions with pip's own index resolution: mirrors, proxies and certificates are as pip has them.

Before: `archives.py` starts this as a child process. After: the files lie in the folder, each as its checksum says.

`pip download` would run each project's build to learn its metadata, so only pip's finder and session are used, in the
way pip-tools uses them. They are no public interface of pip: what changed there ends this process with a traceback,
which the caller shows.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

AT_ONCE = 4


def main(listed: Path, folder: Path) -> None:
    """listed: lines of `project version file sha256`; prints `done FILE` for each file when it is in place."""
    from pip._internal.commands import create_command

    rows = [line.split() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    command = create_command("download")
    options, _ = command.parse_args(["--no-deps", "--no-binary", ":all:", "nothing"])
    with command.main_context():
        session = command._build_session(options)
        finder = command._build_package_finder(options=options, session=session)
        links = {}
        for project in sorted({row[0] for row in rows}):
            links |= {found.link.filename: found.link for found in finder.find_all_candidates(project)}

        def get(url: str) -> bytes:
            answer = session.get(url, timeout=60)
            answer.raise_for_status()
            return bytes(answer.content)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = []
            for project, version, file, sha256 in rows:
                if file not in links:
                    raise SystemExit(f"the package index has no {file} of {project} {version}")
                waiting.append(pool.submit(_keep, get, links[file].url_without_fragment, folder / file, sha256))
            for future in as_completed(waiting):
                print(f"done {future.result()}", flush=True)


def _keep(get: Callable[[str], bytes], url: str, target: Path, sha256: str) -> str:
    content = get(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{target.name}: sha256 is {found}, the list says {sha256}")
    draft = target.with_name(f".{target.name}.{sha256[:8]}")
    draft.write_bytes(content)
    draft.rename(target)
    return target.name


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
