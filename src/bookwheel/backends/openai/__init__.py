"""Any server of OpenAI's API, over the official client: answers and embeddings."""

from bookwheel.errors import SettingsError

try:
    import openai  # noqa: F401 - the modules of this folder need it
except ImportError as error:
    raise SettingsError(
        "`openai:` URLs need the client library of that name. Install it: pip install 'bookwheel[openai]'."
    ) from error
