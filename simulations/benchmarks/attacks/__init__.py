"""The attacks on a federation, measured on public images: `medgan-sim bench attacks`."""
