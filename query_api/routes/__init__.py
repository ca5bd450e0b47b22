"""The HTTP surface: routes, the JSON of what goes in and out. Before it: `app.py`. After it: `service.py`."""
