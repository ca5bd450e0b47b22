"""What both HTTP APIs share: problems, identity, request ids and logs, health. Before it: uvicorn; after it: routes.

Read on in `problems.py`; an app puts the parts together with `requests.RequestMiddleware`, `problems.install`,
`identity.install` and `health.router`.
"""
