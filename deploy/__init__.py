"""How Thalweg is run: `local` is the embedded default, the folders beside it are files for containers."""
