"""The HTTP door, in OpenAI's shapes."""

from bookwheel.api.application import create_app

__all__ = ["create_app"]
