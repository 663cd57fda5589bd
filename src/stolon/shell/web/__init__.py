"""A web page per agent: what it knows, from whom, at what cost; and a place to drop a picture.

The page is drawn on the server from an :class:`~stolon.shell.web.facade.AgentView`, works without JavaScript and
loads nothing from elsewhere. ``app`` makes it, ``server`` serves it with limits on every connection.
"""
