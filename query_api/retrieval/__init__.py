"""From a question to the hits that its caller may read. Before it: `service.py`. After it: Weaviate, and models."""
