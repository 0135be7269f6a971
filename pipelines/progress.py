"""What is seen while it works: a bar in a terminal, plain lines elsewhere. Lines go to stderr and to the log of the run."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("likeness")
ENDED = (Exception, KeyboardInterrupt)  # how a fit ends that somebody may hear of, and not as a kill ends it, such as SIGTERM, which Prefect raises


class Stderr(logging.StreamHandler):
    """Writes to stderr, whatever that is at the moment, but for what is meant for the file alone."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.addFilter(lambda record: not getattr(record, "quiet", False))

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
    handler.handleError = lambda record: None  # a full disk is told of by what stops there
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def later(heard: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Keeps back what a fit says, but for how far it is, until it has ENDED, or has done what it should; of who is killed nothing is heard."""
    kept: list[str] = []

    def hear(line: str) -> None:
        step = re.match(r"[^:]*: step \d+ of \d+", line)
        heard(step[0]) if step else kept.append(line)

    def tell() -> None:
        for line in kept:
            heard(line)

    try:
        yield hear
    except ENDED:
        tell()
        raise
    tell()


@contextmanager
def training() -> Iterator[Callable[[str], None]]:
    """Takes what a fit says: in a terminal a bar with the loss and the time left, elsewhere a line every ten seconds; all of it goes to the file."""
    bar, said = None, -math.inf

    def heard(line: str) -> None:
        nonlocal bar, said
        found = re.fullmatch(r"([\w, ]+): round (\d+) of (\d+): (.*)", line)
        drawn = found and sys.stderr.isatty()
        log.info(line, extra={"quiet": bool(drawn or (found and time.monotonic() - said < 10))})
        if drawn:
            from tqdm import tqdm

            if bar is not None and bar.total != int(found[3]):  # another training, of the steps after what stays
                bar = bar.close()
            bar = bar or tqdm(desc=found[1], total=int(found[3]), leave=False, file=sys.stderr, bar_format="{desc} {percentage:3.0f}%|{bar:20}{postfix}")
            bar.set_postfix_str(found[4], refresh=False)
            bar.update(int(found[2]) - bar.n)
        elif found and time.monotonic() - said >= 10:
            said = time.monotonic()

    try:
        yield heard
    finally:
        if bar is not None:
            bar.close()


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
