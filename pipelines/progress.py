"""What is seen while it works: a bar in a terminal, plain lines elsewhere. Lines go to stderr and to the log of the run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("likeness")


class Stderr(logging.StreamHandler):
    """Writes to stderr, whatever that is at the moment."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


def to_stderr() -> None:
    """Lines with the time of day on stderr, from here on."""
    if not any(isinstance(handler, Stderr) for handler in log.handlers):
        handler = Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Also into a file, for the time of a run."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def each(items: Sequence[T] | Iterable[T], label: str, total: int) -> Iterator[T]:
    """The items, with a bar and the time left in a terminal, or a line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, leave=False, file=sys.stderr)
        return
    start = said = time.monotonic()
    for i, item in enumerate(items):
        now = time.monotonic()
        if now - said > 10:
            log.info("%s: %d of %d, about %.0f s left", label, i, total, (now - start) / max(i, 1) * (total - i))
            said = now
        yield item
