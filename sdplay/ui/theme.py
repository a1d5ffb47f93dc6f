"""How the page looks: system fonts, one accent colour, light and dark."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from sdplay import viewer
from sdplay.ui import languages

_STYLES = [Path(__file__).with_name(name) for name in ("style.css", "studio.css")]
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]


def theme() -> gr.themes.Base:
    """Fonts that are on the visitor's computer: nothing is fetched from elsewhere."""
    return gr.themes.Default(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", radius_size="md", font=_FONTS, font_mono=_MONO
    ).set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        block_background_fill="white",
        block_border_width="0px",
        block_shadow="none",
        block_title_text_weight="600",
        block_label_text_weight="600",
        form_gap_width="0px",
        input_border_width="1px",
        input_background_fill="white",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
    )  # fmt: skip


def head() -> str:
    """Style sheets and the script that translates. Gradio rewrites the selectors of `css_paths`, so that some no longer match."""
    styles = "\n".join(path.read_text(encoding="utf-8") for path in _STYLES)
    return f"<style>\n{styles}{viewer.style()}</style>{languages.script()}"
