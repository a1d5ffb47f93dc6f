"""A page that is only open costs next to nothing: on two cores without a GPU, what it takes is taken from the training beside it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdplay.ui.compressing import compressed

REST_S = 0.02
"""How long Gradio's queue sleeps when it has found nothing to do."""
_HEAD = b"<head>"
_SCRIPT = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("calm.js", "order.js"))


def rest_when_free(blocks: gr.Blocks) -> None:
    """Let the queue look for work fifty times a second. Gradio 6.31 looks a thousand times, for a twelfth of a core."""
    blocks._queue.sleep_when_free = REST_S


class CalmPages:
    """ASGI middleware that puts `calm.js` and `order.js` first into a page's head, and sends the page, 0.7 MB, compressed.

    Gradio compresses assets only. Gradio's own `head` comes after Gradio's scripts, too late for these.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pages are sent once they are whole; all else passes as it comes."""
        start: Message | None = None
        body = b""

        async def pass_on(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    page = calm(body)
                    if page != body:
                        page, headers = compressed(page, Headers(scope=scope).get("accept-encoding", ""))
                        MutableHeaders(scope=start).update(headers)
                    await send(start)
                    await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, pass_on)


def calm(page: bytes) -> bytes:
    """A page's HTML with the script before all others; HTML without a head stays."""
    return page.replace(_HEAD, _HEAD + b"<script>" + _SCRIPT + b"</script>", 1)


def _is_page(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in start["headers"])
