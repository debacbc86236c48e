"""Pinned things, fetched and checked: wheels, repositories of a model hub, files of web servers and of this machine."""
