"""The server: that of fedf2dg."""

from fedf2dg import flower_server

app = flower_server.app
