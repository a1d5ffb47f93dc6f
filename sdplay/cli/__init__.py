"""The command line: argv -> Engine. Progress bars on a terminal, plain lines in a log, JSON where a program reads."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from sdplay.cli.commands import EXIT_FAILED
from sdplay.cli.parser import build_parser
from sdplay.device import share_cores
from sdplay.errors import SdplayError
from sdplay.quiet import quiet_environment

EXIT_STOPPED = 130

__all__ = ("EXIT_FAILED", "EXIT_STOPPED", "build_parser", "main")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 with a sentence on stderr."""
    given = sys.argv[1:] if argv is None else argv
    arguments = build_parser(next((text for text in given if not text.startswith("-")), "")).parse_args(given)
    quiet_environment()
    share_cores()
    logging.getLogger("sdplay").addHandler(logging.NullHandler())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        return arguments.do(arguments)
    except SdplayError as error:
        print(f"sdplay: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A polite kill is what Ctrl-C is: stop, keep what was learned."""
    raise KeyboardInterrupt
