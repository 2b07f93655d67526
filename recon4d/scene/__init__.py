"""What things are: cameras, poses, depth maps, meshes, clouds, scenes. Knows numpy and nothing else."""
