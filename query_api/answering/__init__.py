"""From hits to an answer with citations. Before it: `service.py`. After it: a model, or none."""
