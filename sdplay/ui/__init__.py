"""The web page and its HTTP API: three thin skins over the engine are cli, ui and ui/api; this is the only place that knows Gradio."""

from sdplay.ui.stubs import leave_stubs_alone

leave_stubs_alone()
