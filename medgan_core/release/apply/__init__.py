"""A released model at work in a hospital: read files, apply the network, write files of the same kind."""
