"""Gradio's scripts as a page gets them: compressed once, not for every visitor, and mended where they cost a page a second to open.

The mends are to the text of Gradio 6.31's front end. Where it reads otherwise, as in another version, it is sent as it is.
"""

from __future__ import annotations

import functools
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from gradio.route_utils import BUILD_PATH_LIB
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sdplay.ui.compressing import compressed

FOLDER = Path(BUILD_PATH_LIB)
KEPT_BY_BROWSERS_S = 24 * 60 * 60
"""Names of assets change with their contents, but for the mends."""
_ASSET = re.compile(r"/assets/([\w.-]+\.(?:js|css))")


@dataclass(frozen=True)
class Mend:
    """A piece of a script, and what stands there instead."""

    file_start: str
    """How the name of the script begins; the rest is a hash."""
    gradio: str
    ours: str


MENDS = (
    # Which events a component has: asked for every component of every handler, half a million questions. Now a list made once.
    Mend(
        "core-",
        "find_attached_events(e,t){let n=t.filter(t=>t.targets.find(([t])=>t===e.id)).map(t=>{let n=t.targets.find(([t])=>t===e.id);"
        "return n?n[1]:null}).filter(Boolean);return e.props.shared_props.attached_events=n,e}",
        "find_attached_events(e,t){if(this.attachedOf!==t){this.attachedOf=t;let a=this.attached=new Map;for(let d of t){let s=new Set;"
        "for(let[i,n]of d.targets)s.has(i)||(s.add(i),n&&(a.has(i)?a.get(i).push(n):a.set(i,[n])))}}"
        "return e.props.shared_props.attached_events=[...this.attached.get(e.id)??[]],e}",
    ),
    # A component by its id: the whole tree was searched for each value read and each change shown. Now a map, made once for a tree.
    Mend(
        "core-",
        "function Z(e,t){if(e.id===t)return e;if(e.children)for(let n of e.children){let e=Z(n,t);if(e)return e}return null}",
        "let nodesOf=new WeakMap;function Z(e,t){let n=nodesOf.get(e);if(!n){n=new Map;let r=[e];for(let e of r)n.has(e.id)||n.set(e.id,e),"
        "e.children&&r.push(...e.children);nodesOf.set(e,n)}return n.get(t)??null}",
    ),
    # That map is forgotten where a part of the tree is put in anew.
    Mend("core-", "a.children=i.children,this.#f(i)", "a.children=i.children,nodesOf=new WeakMap,this.#f(i)"),
    # The page as it stands in the document is built, and built again at once by what is there for a page that changes. Now if it does.
    Mend("Blocks-", "le(()=>{v(),oe(()=>{O.reload(", "le(()=>{v()&&oe(()=>{O.reload("),
)


class KeptAssets:
    """ASGI middleware that answers for Gradio's scripts and style sheets; all else passes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is not among the assets is left to Gradio, which says so."""
        name = _asked_for(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        accepted = Headers(scope=scope).get("accept-encoding", "")
        encoding = next((known for known in ("br", "gzip") if known in accepted), "")
        await _answer(name, encoding)(scope, receive, send)


def mended(name: str, text: str) -> str:
    """A script with the mends that are meant for it, or as it is where any of them does not fit."""
    mine = [mend for mend in MENDS if name.startswith(mend.file_start)]
    if any(text.count(mend.gradio) != 1 for mend in mine):
        return text
    return functools.reduce(lambda script, mend: script.replace(mend.gradio, mend.ours), mine, text)


@functools.cache
def _answer(name: str, encoding: str) -> Response:
    """Ready to be sent, again and again."""
    script = mended(name, (FOLDER / name).read_text(encoding="utf-8"))
    body, headers = compressed(script.encode(), encoding)
    headers["cache-control"] = f"max-age={KEPT_BY_BROWSERS_S}"
    return Response(body, headers=headers, media_type=mimetypes.guess_type(name)[0])


def _asked_for(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    path = _ASSET.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
    return path[1] if path and (FOLDER / path[1]).is_file() else None
