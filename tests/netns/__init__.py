"""Calls over networks that change: hosts, routers and NATs in network namespaces, made by the test."""
