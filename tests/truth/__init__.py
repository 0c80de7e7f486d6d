"""Ground truth: what the kernel says of its resets, against what `explain` finds in their packets alone."""
