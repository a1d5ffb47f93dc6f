"""Trained weights <-> the file formats other programs read.

Adapter files are hostile until they are read: only safetensors, never pickle; the header is checked before any tensor is;
names, shapes and values are checked before anything is attached to a base.
"""

from sdplay.formats.adapter import LAYOUTS, METHODS, AdapterFile, Layer
from sdplay.formats.attach import attached
from sdplay.formats.diffusers_lora import tensors_of, trained_layers
from sdplay.formats.embedding import write_embedding
from sdplay.formats.files import read_adapter, write_adapter
from sdplay.formats.header import read_header, sha256_of
from sdplay.formats.inspect import Report, inspect_adapter, report_lines
from sdplay.formats.merge import write_merged
from sdplay.formats.proof import prove
from sdplay.formats.weights import write_weights

__all__ = [
    "LAYOUTS",
    "METHODS",
    "AdapterFile",
    "Layer",
    "Report",
    "attached",
    "inspect_adapter",
    "prove",
    "read_adapter",
    "read_header",
    "report_lines",
    "sha256_of",
    "tensors_of",
    "trained_layers",
    "write_adapter",
    "write_embedding",
    "write_merged",
    "write_weights",
]
