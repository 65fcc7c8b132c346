"""Text that lies on every machine: what the demonstration learns from."""
