"""What the stand-in model server is told and what it remembers; `model_server` puts it on a port."""

import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Kind = Literal[
    "rate_limit",  # 429, with Retry-After if `retry_after` is given
    "server_error",  # 500
    "overloaded",  # 503
    "unauthorised",  # 401
    "unknown_model",  # 404
    "bad_request",  # 400 whatever the texts
    "hang",  # no answer for `seconds`, then the connection closes
    "slow",  # the right answer after `seconds`
    "trickle",  # a byte every tenth of a second for `seconds`
    "drop",  # the connection closes at once
    "garbage",  # 200, not JSON
    "strange",  # 200, JSON of another shape
    "nan",  # one value, or one rank's score, is NaN
    "zero",  # one vector is all zeros
    "short",  # one vector, or one rank, too few
    "permuted",  # the vectors (and Cohere's echo) in another order; OpenAI's and ranks' numbers stay true
    "rewritten_echo",  # Cohere's echo in lower case: harmless
    "misnumbered",  # OpenAI's and ranks' numbers are wrong
    "wrong_dimension",  # one value too many in each vector
    "cut",  # a stream's connection breaks in its middle
    "ended",  # a stream ends in its middle as if it were over, without its last events
    "silent",  # a stream stops in its middle: nothing for `seconds`, then the connection closes
    "pings",  # likewise, but with a comment line every tenth of a second
    "paced",  # a stream with `seconds` before each event
    "malformed",  # an event in a stream's middle is not JSON
    "other_frame",  # an event in a stream's middle is JSON of another shape
    "error_frame",  # a stream ends in its middle with the protocol's own error event
]
STATUS = {
    "rate_limit": 429,
    "server_error": 500,
    "overloaded": 503,
    "unauthorised": 401,
    "unknown_model": 404,
    "bad_request": 400,
}
MOST_REMEMBERED = 20_000


@dataclass(frozen=True)
class Call:
    """One request as it came: `role` is Cohere's input_type, empty for the others."""

    path: str
    body: dict[str, Any]
    authorization: str
    texts: tuple[str, ...]
    role: str


@dataclass
class Fault:
    """What goes wrong in the next `times` requests whose path contains `path`; -1: until reset."""

    kind: Kind
    times: int = 1
    path: str = ""
    retry_after: str | None = None
    seconds: float = 60.0


@dataclass
class State:
    """All that the server remembers; guarded by `lock`."""

    dimension: int = 64
    marker: str | None = None
    answer: str | None = None
    faults: list[Fault] = field(default_factory=list)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=MOST_REMEMBERED))
    calls_by_path: Counter[str] = field(default_factory=Counter)
    calls_by_role: Counter[str] = field(default_factory=Counter)
    texts_by_role: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set once the reader of a stream went away before its end."""


class ModelControl:
    """The commands, as methods for tests in this process and as `control` for others."""

    def __init__(self, dimension: int) -> None:
        self._first_dimension = dimension
        self.state = State(dimension=dimension)

    def misbehave(
        self,
        kind: Kind,
        times: int = 1,
        *,
        path: str = "",
        retry_after: float | str | None = None,
        seconds: float = 60.0,
    ) -> None:
        """Queue a fault for the next `times` matching requests (-1: until `reset`)."""
        if kind not in get_args(Kind):
            raise ValueError(f"no fault is called {kind!r}: {', '.join(get_args(Kind))}")
        wish = None if retry_after is None else str(retry_after)
        with self.state.lock:
            self.state.faults.append(Fault(kind, times, path, wish, seconds))

    def refuse_texts_with(self, marker: str | None) -> None:
        """400 for every request that has a text containing `marker`; None ends it."""
        with self.state.lock:
            self.state.marker = marker

    def set_dimension(self, dimension: int) -> None:
        """The length of vectors from now on, unless a request asks for another: a changed model."""
        with self.state.lock:
            self.state.dimension = dimension

    def answer_with(self, text: str | None) -> None:
        """What chat says from now on, uncited; None: cited sentences of the documents again."""
        with self.state.lock:
            self.state.answer = text

    def reset(self) -> None:
        """No faults, no marker, no memory of calls."""
        with self.state.lock:
            state = self.state
            state.dimension, state.marker, state.answer = self._first_dimension, None, None
            state.faults.clear()
            state.calls.clear()
            state.hung_up.clear()
            for counter in (state.calls_by_path, state.calls_by_role, state.texts_by_role):
                counter.clear()

    def calls(self, path: str = "") -> list[Call]:
        """The remembered requests whose path contains `path`, oldest first."""
        with self.state.lock:
            return [call for call in self.state.calls if path in call.path]

    def stats(self) -> dict[str, Any]:
        """Counts since the last reset; refused and failed requests count, too."""
        with self.state.lock:
            return {
                "calls_by_path": dict(self.state.calls_by_path),
                "calls_by_role": dict(self.state.calls_by_role),
                "texts_by_role": dict(self.state.texts_by_role),
                "texts": sum(self.state.texts_by_role.values()),
                "hung_up": self.state.hung_up.is_set(),
            }

    def control(self, command: dict[str, Any]) -> dict[str, Any]:
        """What `POST /__control` does; answers with the counts, and the calls for `{"do": "calls"}`."""
        wanted = dict(command)
        match wanted.pop("do", "stats"):
            case "misbehave":
                self.misbehave(**wanted)
            case "reset":
                self.reset()
            case "marker":
                self.refuse_texts_with(wanted.get("text"))
            case "dimension":
                self.set_dimension(wanted["value"])
            case "answer":
                self.answer_with(wanted.get("text"))
            case "calls":
                return {**self.stats(), "calls": [asdict(call) for call in self.calls(wanted.get("path", ""))]}
            case "stats":
                pass
            case unknown:
                raise ValueError(f"no command is called {unknown!r}")
        return self.stats()

    def remember(self, call: Call) -> Fault | None:
        """Note a request and take the fault that is due for it."""
        state = self.state
        with state.lock:
            state.calls.append(call)
            state.calls_by_path[call.path] += 1
            if "embed" in call.path:
                state.calls_by_role[call.role] += 1
                state.texts_by_role[call.role] += len(call.texts)
            for fault in state.faults:
                if fault.times != 0 and fault.path in call.path:
                    fault.times -= 1 if fault.times > 0 else 0
                    return fault
        return None
