"""Tokens: those of an identity provider (OAuth2), and our own for people who log in here.

Before this: `../access_state.py` knows users and grants. After this: `../web/identity.py` asks who a bearer token is.
"""
