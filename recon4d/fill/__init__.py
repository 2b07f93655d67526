"""What was not seen: layers, disocclusions, camera paths, moments between frames."""
