"""Real edits: the documentation in successive releases of known projects, and what each way of indexing embeds of it."""
