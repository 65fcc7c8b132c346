"""Formats of other programs, one file each; the folder is the registry."""
