"""The same small application for every peer: WSGI, ASGI, flare, nginx."""
