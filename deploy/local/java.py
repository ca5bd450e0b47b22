"""How the Java servers are started: small heaps, a fast start, logs on standard output.

Before: `parts`. After: `kafka`, `connect` and `registry`.
"""

from __future__ import annotations

from pathlib import Path

from deploy.local.server import Context

LOGGING = """\
# Rendered at each start. Standard output goes to the log file, which the supervisor caps.
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %-5p %c{1.}: %m%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
"""
QUIET_LOGGERS = """\
logger.quiet1.name=org.apache.kafka.clients
logger.quiet1.level=warn
logger.quiet2.name=org.apache.kafka.common.config
logger.quiet2.level=warn
logger.quiet3.name=org.reflections
logger.quiet3.level=error
logger.quiet4.name=org.eclipse.jetty
logger.quiet4.level=warn
"""


def options(context: Context, name: str, heap_mb: int, *, quick_compiler_only: bool) -> list[str]:
    """Flags of one JVM.

    On a small machine start time and memory depend on the serial collector and, for a stack that will be started
    again, an archive of loaded classes. `quick_compiler_only` gives up peak speed, right for what is mostly idle.
    """
    flags = [
        f"-Xms{min(heap_mb, 128)}m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={temporary(context, name)}",
    ]
    if context.lasting:
        # Made at the first orderly stop, which takes some seconds longer for it; each later start is shorter.
        flags += ["-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={context.home.run / f'{name}.jsa'}"]
        flags += ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    if quick_compiler_only:
        flags.append("-XX:TieredStopAtLevel=1")
    return flags


def temporary(context: Context, name: str) -> Path:
    """The folder for temporary files of one JVM."""
    return context.home.run / "tmp" / name
