"""sdplay: teach Stable Diffusion a subject or a style, and see side by side what it learned."""

__version__ = "0.1.0"
