"""A shop of three services: orders runs the sagas, stock serves steps over HTTP, payments through a queue.

``python -m docs.examples.shop`` starts it; ``python -m docs.examples.shop.chaos`` tries to break it.
"""
