"""What a parsing process gives up before it looks at a file: network, processes, memory, time, files. Linux only.

Before it: child.py's start. After it: nothing gets any of it back; a fork inherits all but the death signal.
"""

import ctypes
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Literal

NetworkBarrier = Literal["namespace", "hook"]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x1000_0000  # unshare(2)
_CLONE_NEWNET = 0x4000_0000
_OPEN_FILES = 64
_WRITTEN_BYTES = 67_108_864  # 64 MiB: the largest temporary file a parser may write

_NETWORK_EVENTS = ("socket.",)
_PROCESS_EVENTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, whatever ends that.

    Args:
        parent: the process id that is expected to be the parent; when it is gone already, this process exits.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def leave_network() -> NetworkBarrier:
    """Cut this process off from every network, its own machine's included.

    Where the kernel permits it, by a network namespace with nothing in it, which no code can leave. Always by an
    audit hook that refuses Python's sockets, which is what remains in a container that forbids namespaces.
    Must be called while the process has one thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    alone = libc.unshare(_CLONE_NEWNET) == 0
    if not alone and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        alone = True
        _map_identity(uid, gid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _refuse(_NETWORK_EVENTS, "a parser may not use the network")
    return "namespace" if alone else "hook"


def limit_for_one_file(*, memory_bytes: int, cpu_s: float) -> None:
    """Set the limits under which one file is read; they hold until the process ends.

    Args:
        memory_bytes: address space, that of the loaded libraries (about 390 MB) included.
        cpu_s: processor time; beyond it the kernel sends SIGXCPU, a second later SIGKILL.
    """
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    seconds = math.ceil(used + cpu_s)
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_FSIZE, _WRITTEN_BYTES, _WRITTEN_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        ceiling = resource.getrlimit(what)[1]
        most = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
        resource.setrlimit(what, (min(soft, most), most))
    _refuse(_PROCESS_EVENTS, "a parser may not start a process")


def _map_identity(uid: int, gid: int) -> None:
    """Keep one's own ids in a new user namespace, so that files look the same from inside."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        try:
            Path(f"/proc/self/{name}").write_text(line)
        except OSError:
            return  # the ids then show as nobody's, which changes no permission


def _refuse(prefixes: tuple[str, ...], why: str) -> None:
    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(prefixes):
            raise PermissionError(why)

    sys.addaudithook(hook)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")
