"""The command `thalweg`: mounts each package's own commands, and no more."""
