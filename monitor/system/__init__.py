"""This machine: files that survive a power cut, reads that may hang, locks, disk, memory, power,
systemd."""
