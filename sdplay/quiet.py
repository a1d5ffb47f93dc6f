"""Keep the libraries from printing what a user cannot act on. Our own progress is an event."""

from __future__ import annotations

import os
import warnings


def quiet_environment() -> None:
    """Before anything heavy is imported: fewer warnings, no telemetry. What the user has set himself stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def quiet_libraries() -> None:
    """No loading bars; no notes about adapters being switched, which is what we do all day."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"peft\.tuners")
