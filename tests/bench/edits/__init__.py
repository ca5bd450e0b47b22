"""Real edits: the documentation in successive releases of known projects, and what indexing it costs."""
