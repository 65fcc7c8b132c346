"""The loss doctor: what goes wrong while a model learns, why it probably does, and what to change."""
