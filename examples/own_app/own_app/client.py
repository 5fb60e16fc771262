"""A client: that of fedf2dg."""

from fedf2dg import flower_client

app = flower_client.app
