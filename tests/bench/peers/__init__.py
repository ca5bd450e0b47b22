"""Other tools that keep a vector index in step: one script a tool, in an environment of their own."""
