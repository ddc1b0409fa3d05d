"""Who may import whom: the contracts of pyproject.toml, and what the producer may load."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: What an importing service must not pay for.
HEAVY = ("gevent", "ssl", "urllib3", "kafka", "prometheus_client", "sqlite3", "click", "rich", "cryptography")


def test_imports_point_one_way() -> None:
    # Given the contracts in pyproject.toml, when the code's imports are held against them (in a process of
    # its own, since the linter sets up logging for its whole process)
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    linted = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    # Then none is broken; the report names each chain of imports that breaks one
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "0 broken" in linted.stdout


def test_the_producer_needs_nothing_but_the_standard_library_and_msgpack() -> None:
    allowed = sys.stdlib_module_names | {"msgpack", "producer"}
    strangers = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "producer").rglob("*.py")
        for name in imported_at_import_time(path)
        if name.partition(".")[0] not in allowed
    }
    assert strangers == set()


def test_importing_the_producer_loads_nothing_heavy() -> None:
    program = f"import sys, producer; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    ).stdout.split()
    assert loaded == []


def test_only_the_entry_point_patches() -> None:
    patching = {
        str(path.relative_to(ROOT))
        for package in ("producer", "thorn_worker")
        for path in (ROOT / package).rglob("*.py")
        if "patch_all" in path.read_text()
    }
    assert patching == {"thorn_worker/__main__.py"}


def imported_at_import_time(path: Path) -> set[str]:
    """Modules that a file imports outside of functions and of ``if TYPE_CHECKING``."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found
