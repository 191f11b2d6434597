"""Imported once by the fork server, so that workers start with the plugins in memory."""

from phonoscope import plugins

plugins.discover()
