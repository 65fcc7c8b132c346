"""From a person's files to token ids: reading, cleaning, splitting, tokenizing, storing, packing."""
