"""The tantivy index keeps the contract."""

from pathlib import Path

import pytest

from bookwheel.backends.tantivy import TantivyIndex
from bookwheel.ports import KeywordIndex
from bookwheel.testing.keywords import KeywordIndexContract


class TestTantivyIndex(KeywordIndexContract):
    """BM25 on a directory."""

    @pytest.fixture
    def keywords(self, tmp_path: Path) -> TantivyIndex:
        """A writer of a new directory."""
        return TantivyIndex(tmp_path / "keywords", writable=True)

    async def reopen(self, keywords: KeywordIndex) -> KeywordIndex:
        """A reader, as another process opens one beside the writer."""
        assert isinstance(keywords, TantivyIndex)
        return TantivyIndex(keywords.directory, writable=False)
