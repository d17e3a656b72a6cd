"""From fields and grids to meshes, and from meshes to files."""
