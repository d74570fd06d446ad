"""No backend without a contract."""

import ast
from pathlib import Path

import pytest

import bookwheel.backends

BACKENDS = Path(bookwheel.backends.__file__).parent
TESTS = Path(__file__).parent


def backends() -> list[str]:
    """Names of backends: files and folders, without the parts of a backend that is several files (name_part.py)."""
    names = sorted({path.stem for path in BACKENDS.iterdir() if path.stem.isidentifier()} - {"__init__", "__pycache__"})
    return [name for name in names if not any(name.startswith(f"{whole}_") for whole in names)]


def held_backends(path: Path) -> set[str]:
    """The backends that a test module imports beside a contract that one of its classes subclasses."""
    tree = ast.parse(path.read_text())
    imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    bases = {
        base.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test")
        for base in node.bases
        if isinstance(base, ast.Name)
    }
    if not any(base.endswith("Contract") for base in bases):
        return set()
    return {module.split(".")[2] for module in imports if module.startswith("bookwheel.backends.")}


@pytest.mark.parametrize("backend", backends())
def test_backend_keeps_a_contract(backend: str) -> None:
    """Each backend is imported by a module of this folder that subclasses a contract."""
    assert backend in set().union(*(held_backends(path) for path in TESTS.glob("test_*.py")))


def test_a_backend_without_a_contract_is_noticed(tmp_path: Path) -> None:
    """Importing a backend is not enough: a test class must subclass a contract."""
    module = tmp_path / "test_one.py"
    module.write_text("from bookwheel.backends.one import One\n\nclass TestOne:\n    pass\n")
    assert held_backends(module) == set()
    module.write_text("from bookwheel.backends.one import One\n\nclass TestOne(OneContract):\n    pass\n")
    assert held_backends(module) == {"one"}
