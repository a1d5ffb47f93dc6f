"""What a visitor is told when something fails: a sentence, never a traceback."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from sdplay.errors import SdplayError

LOG = logging.getLogger("sdplay")
UNEXPECTED = "Something went wrong inside sdplay. The server's log has the full report; trying again may help."


def friendly(function: Callable[..., Any], *fixed: object) -> Callable[..., Any]:
    """A handler with its first arguments given, whose errors become one sentence on the page.

    Gradio reads a handler's signature and types; both are kept, without the given arguments and with the types resolved.
    A generator's answers are passed on as they come.
    """

    @contextmanager
    def door() -> Iterator[None]:
        try:
            yield
        except SdplayError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:  # whatever it is, the visitor gets a sentence
            LOG.exception("%s failed", function.__name__)
            raise gr.Error(UNEXPECTED, print_exception=False) from error

    @functools.wraps(function)
    def once(*args: object, **kwargs: object) -> object:
        with door():
            return function(*fixed, *args, **kwargs)

    @functools.wraps(function)
    def again_and_again(*args: object, **kwargs: object) -> Iterator[object]:
        with door():
            yield from function(*fixed, *args, **kwargs)

    handler: Any = again_and_again if inspect.isgeneratorfunction(function) else once
    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())[len(fixed) :]
    handler.__signature__ = signature.replace(parameters=parameters)
    return handler
