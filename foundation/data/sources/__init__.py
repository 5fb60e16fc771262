"""Every data set by name: the embedded digits, the field's public sets and a user's own files.

A new data set is one file here that declares a `Source`.
"""
