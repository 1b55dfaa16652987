"""The commands of `relay`: one file a command, each a thin shell around the package that does the work."""
