"""What a visitor is told when something fails: a sentence, never a traceback."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from sdplay.errors import SdplayError

LOG = logging.getLogger("sdplay")
UNEXPECTED = "Something went wrong inside sdplay. The server's log has the full report; trying again may help."


def friendly(function: Callable[..., Any], *fixed: object) -> Callable[..., Any]:
    """A handler with its first arguments given, whose errors become one sentence on the page.

    Gradio reads a handler's signature and types; both are kept, without the given arguments and with the types resolved.
    """

    @functools.wraps(function)
    def handler(*args: object, **kwargs: object) -> object:
        try:
            return function(*fixed, *args, **kwargs)
        except SdplayError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:  # the door to the visitor: whatever it is, they get a sentence
            LOG.exception("%s failed", function.__name__)
            raise gr.Error(UNEXPECTED, print_exception=False) from error

    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())[len(fixed) :]
    handler.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return handler
