"""What the components share: registration with torch, tensors in and out, devices, build information."""
