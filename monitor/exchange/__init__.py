"""Formats of other programs and of people, in and out."""
