"""Finding documents that repeat earlier ones."""
