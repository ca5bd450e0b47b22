import subprocess
import sys
from pathlib import Path

import pytest

from streams.parsing import sandbox

pytestmark = pytest.mark.slow

ROOT = Path(sandbox.__file__).parents[2]


def outcome(code: str) -> str:
    """What a fresh process prints after it has run the code."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "use",
    [
        "socket.create_connection(('127.0.0.1', 9), timeout=1)",
        "socket.getaddrinfo('example.org', 80)",
        "socket.socket(socket.AF_UNIX).connect('/nowhere')",
        "urllib.request.urlopen('http://127.0.0.1:9/', timeout=1)",
    ],
)
def test_no_socket_can_be_had_after_leaving_the_network(use: str) -> None:
    code = (
        "import socket, urllib.request, urllib.error\nfrom streams.parsing import sandbox\nsandbox.leave_network()\n"
        f"try:\n    {use}\n    print('connected')\nexcept PermissionError as e:\n    print(e)\n"
        "except urllib.error.URLError as e:\n    print(e.reason)\n"
    )
    assert outcome(code) == "a parser may not use the network"


@pytest.mark.parametrize(
    "use", ["os.fork()", "os.system('true')", "subprocess.Popen(['true'])", "os.execv('/bin/true', ['x'])"]
)
def test_no_process_can_be_started_while_a_file_is_read(use: str) -> None:
    code = (
        "import os, subprocess\nfrom streams.parsing import sandbox\n"
        "sandbox.limit_for_one_file(memory_bytes=1 << 30, cpu_s=5)\n"
        f"try:\n    {use}\n    print('started')\nexcept PermissionError as e:\n    print(e)\n"
    )
    assert outcome(code) == "a parser may not start a process"


def test_the_limits_of_one_file_are_set() -> None:
    code = (
        "import resource as r\nfrom streams.parsing import sandbox\n"
        "sandbox.limit_for_one_file(memory_bytes=1 << 30, cpu_s=5)\n"
        "print(*(r.getrlimit(l)[0] for l in (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE)))\n"
        "print(r.getrlimit(r.RLIMIT_CPU)[0] in (6, 7))\n"
    )
    assert outcome(code) == f"{1 << 30} {64 << 20} 64 0\nTrue"


def test_a_parent_that_is_gone_already_ends_the_process() -> None:
    code = "from streams.parsing import sandbox\nsandbox.die_with_parent(1 << 22)\nprint('alive')\n"
    assert outcome(code) == ""
