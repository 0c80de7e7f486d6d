"""Two hosts joined by a wire."""
