"""Where work runs: one call that maps a function over items, on processes of this machine or on a cluster."""
