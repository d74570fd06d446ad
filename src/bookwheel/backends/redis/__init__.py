"""Redis 5 or newer, or what speaks its protocol: the cache and the limits that many servers share."""

from bookwheel.errors import SettingsError

try:
    import redis.asyncio  # noqa: F401 - whether it is there
except ImportError as error:
    raise SettingsError(
        "BOOKWHEEL_CACHE_URL or BOOKWHEEL_LIMITS_URL asks for Redis, whose library is not installed: pip install"
        " 'bookwheel[redis]'."
    ) from error

from bookwheel.backends.redis.cache import RedisCache
from bookwheel.backends.redis.limits import RedisLimiter
from bookwheel.backends.redis.server import PATIENCE_SECONDS

__all__ = ["PATIENCE_SECONDS", "RedisCache", "RedisLimiter"]
