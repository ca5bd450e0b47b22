"""Other tools that keep a vector index in step, measured at the same place: one script a tool, in an environment of their own."""
