"""Watching folders without trusting them: what lies there, what the system hints at, a thread for
each, and files and shares that do harm."""
