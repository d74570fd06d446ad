"""The HTTP door, in OpenAI's shapes."""
