"""Energies and solvers: depth that agrees with the pictures, the structure, its own prior and the other frames."""
