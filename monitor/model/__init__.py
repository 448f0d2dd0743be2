"""What looks at a frame: backbone engines, head, activation maps, versions on disk."""
