"""What moves: optical flow, evidence of motion, objects and their tracks, scene flow."""
