"""OpenVINO: embeddings on this machine's CPU."""
