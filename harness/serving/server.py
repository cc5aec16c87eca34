"""The server in this process: waitress in front, one thread that computes behind."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError
from harness.host.paths import expanded
from harness.serving.service import Service
from harness.serving.shown import Shown
from harness.serving.worker import Worker

if TYPE_CHECKING:
    from harness.serving.loading import Loaded

CAPACITY = 64
"""Requests that are answered or wait, at most; more are told to come again."""
SPARE_THREADS = 16
"""Beside those of waiting clients, so that health is answered under full load."""
GRACE = 30.0
"""Seconds in which a server that ends finishes its answers."""
DEADLINE = 300.0
"""Seconds that an answer may take."""

Load = Callable[[], "Loaded"]


def quiet_say(line: str) -> None:
    """Say nothing."""


@dataclass(slots=True)
class Handle:
    """A running server. url: where it is, such as "http://127.0.0.1:5001"."""

    url: str
    service: Service
    shown: Shown
    _server: Any
    _closing: threading.Event
    _listening: threading.Thread
    _loading: threading.Thread

    def wait(self, seconds: float = 600.0) -> Handle:
        """Come back when the model is loaded.

        Raises UsageError where it cannot be, or is not within so many seconds.
        """
        self._loading.join(seconds)
        if self.service.failed is not None:
            raise UsageError(f"the model cannot be loaded: {self.service.failed}")
        if self.service.loaded is None:
            raise UsageError(f"the model is not loaded after {seconds:g} seconds.")
        return self

    def close(self, grace: float = GRACE) -> None:
        """Take no more requests, finish those that are here within `grace` seconds, end."""
        if self.service.worker is not None:
            self.service.worker.close(grace)
            until = time.monotonic() + 5
            while self._server.task_dispatcher.active_count and time.monotonic() < until:
                time.sleep(0.02)  # the last answers are on their way
        self._closing.set()
        self._server.pull_trigger()
        self._listening.join(timeout=10)


def start(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    model: str | None = None,
    adapter: str | PathLike[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    key: str | None = None,
) -> Handle:
    """Serve the adapters of runs, or a registered model, in the background.

    runs: one run's folder or several, of one base; none: the newest finished one under runs/, and
    with none there the embedded model. model, adapter: instead, a registered model, and the folder
    of an adapter on it if there is one. host, port: 0 takes a free port. key: what requests must
    show; needed for another host than this machine's own.
    It comes back at once, while the model is loaded; `wait` waits for it, `close` ends it. Raises
    UsageError where the address cannot be had.
    """
    given = [runs] if isinstance(runs, str | PathLike) else list(runs)
    paths = [expanded(fspath(path)) for path in given]
    own = None if adapter is None else expanded(fspath(adapter))
    load = loader(paths, model, own, Path("runs"), quiet_say)
    return serve(load, host, port, key)


def loader(
    runs: Sequence[Path],
    model: str | None,
    adapter: Path | None,
    root: Path,
    say: Callable[[str], None],
    registry: Path | None = None,
    length: int | None = None,
) -> Load:
    """What loads the models that are to be served; the arguments as `start` has them.

    root: where runs are looked for. registry: where models of one's own are registered. length:
    tokens of a prompt and its answer together, at most (None: the usual). Raises UsageError for
    arguments that exclude one another.
    """
    if runs and model is not None:
        raise UsageError("give runs or --model: a run has its own model.")
    if adapter is not None and model is None:
        raise UsageError("--adapter is on a model: name it with --model.")

    def load() -> Loaded:
        from harness.serving.loading import LENGTH, load_model, load_runs, newest_run

        most = length or LENGTH
        if model is not None:
            return load_model(model, adapter, say, registry, most)
        found = list(runs)
        if not found and (newest := newest_run(root)) is not None:
            say(f"serving the newest run, {newest}")
            found = [newest]
        if found:
            return load_runs(found, say, most)
        say(f"{root} holds no finished run: serving the embedded model as it is")
        return load_model("gemma3-270m", None, say, length=most)

    return load


def serve(
    load: Load,
    host: str,
    port: int,
    key: str | None,
    *,
    open_to_all: bool = False,
    capacity: int = CAPACITY,
    deadline: float = DEADLINE,
    say: Callable[[str], None] = quiet_say,
) -> Handle:
    """Listen now, load in the background. Raises UsageError."""
    from waitress.server import create_server  # type: ignore[import-untyped]

    from harness.serving.app import make_app

    own = _is_own(host)
    if not own and key is None and not open_to_all:
        raise UsageError(
            f"--host {host} can be reached from other machines: give --key-file, or --no-key to "
            "let anyone ask."
        )
    names = {"localhost", "127.0.0.1", "::1", host}
    service = Service(deadline)
    shown = Shown()
    app = make_app(service, shown, frozenset(names) if own else frozenset(), key)
    try:
        server = create_server(
            app,
            host=host,
            port=port,
            threads=capacity + SPARE_THREADS,
            connection_limit=4 * (capacity + SPARE_THREADS),
            channel_timeout=60,
            max_request_body_size=1 << 20,
            ident=None,
        )
    except (OSError, ValueError) as error:
        raise UsageError(
            f"port {port} of {host} cannot be had ({error}): give another with --port."
        ) from error
    closing = threading.Event()
    listening = threading.Thread(
        target=_listen, args=(server, closing), name="listening", daemon=True
    )
    loading = threading.Thread(
        target=_load, args=(service, load, capacity, say), name="loading", daemon=True
    )
    listening.start()
    loading.start()
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{server.effective_port}"
    return Handle(url, service, shown, server, closing, listening, loading)


def _listen(server: Any, closing: threading.Event) -> None:
    """What waitress' `run` does, until it is to end: its sockets are closed by its own thread."""
    while not closing.is_set():
        server.asyncore.loop(timeout=1, map=server._map, count=1)
    server.close()
    server.task_dispatcher.shutdown(timeout=1)


def _load(service: Service, load: Load, capacity: int, say: Callable[[str], None]) -> None:
    try:
        loaded = load()
        worker = Worker(loaded.engine, capacity, say)
        worker.start()
        service.loaded, service.worker = loaded, worker
    except HarnessError as error:
        service.failed = str(error)
    except Exception as error:
        service.failed = f"{type(error).__name__}: {error}"


def _is_own(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
