"""What goes to a browser, as small as that browser can read it."""

from __future__ import annotations

import gzip

import brotli

BROTLI_QUALITY, GZIP_LEVEL = 4, 6
"""The first as Gradio compresses its assets, the second as zlib does unless told."""


def compressed(body: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers that say how it is packed. `accepted`: the browser's accept-encoding; over plain http none sends `br`,
    unless the address is this computer's own."""
    if "br" in accepted:
        body, encoding = brotli.compress(body, quality=BROTLI_QUALITY), "br"
    elif "gzip" in accepted:
        body, encoding = gzip.compress(body, GZIP_LEVEL), "gzip"
    else:
        return body, {"content-length": str(len(body)), "vary": "accept-encoding"}
    return body, {"content-length": str(len(body)), "vary": "accept-encoding", "content-encoding": encoding}
