"""A client: Flower's entry point for apps that stand on an installation of this package."""

from fedf2dg import prefer_ours

prefer_ours()

from client_app.app import app  # noqa: E402

__all__ = ["app"]
