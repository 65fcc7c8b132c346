"""What tells how good answers are, one pure function a file."""
