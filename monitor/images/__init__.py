"""Frames as files and as people see them: formats, sizes, reading, small pictures, where the model
looked."""
