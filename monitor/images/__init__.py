"""Bytes of images to pixels, small pictures, capture time and camera."""
