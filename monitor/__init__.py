"""trapwatch: a camera-trap monitoring daemon that learns from what people confirm."""

__version__ = "0.1.0"
