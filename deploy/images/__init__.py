"""The container images: Dockerfiles, and which packages of requirements.lock each of them carries."""
