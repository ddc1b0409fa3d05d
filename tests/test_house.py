"""The house rules that a machine can check."""

import ast
import importlib
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import thorn_worker

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("producer", "thorn_worker")

#: Longest module and function, in lines, and most parameters without ``self``; a command has one per option.
MODULE_LINES = 320
FUNCTION_LINES = 60
PARAMETERS = 6


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def is_command(node: ast.FunctionDef) -> bool:
    return any("command" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_the_packages_listed_by_hand_are_those_that_exist() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in sources() if path.name == "__init__.py"
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_folder_with_modules_is_a_package() -> None:
    assert [str(path) for path in sources() if not (path.parent / "__init__.py").exists()] == []


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert thorn_worker.__version__ == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_entry_points_exist() -> None:
    project = PROJECT["project"]
    for points in (project["scripts"], *project["entry-points"].values()):
        for target in points.values():
            module, _, name = target.partition(":")
            assert callable(getattr(importlib.import_module(module), name)), target


def test_types_are_shipped() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()
        assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]


def test_modules_and_functions_stay_readable() -> None:
    long_modules = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in sources()
        if (lines := len(path.read_text().splitlines())) > MODULE_LINES
    ]
    long_functions = [
        f"{where}: {lines} lines"
        for where, node in functions()
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]
    wide_functions = [
        where
        for where, node in functions()
        if not is_command(node)
        and len(
            [
                a
                for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if a.arg not in ("self", "cls")
            ]
        )
        > PARAMETERS
    ]
    assert long_modules + long_functions + wide_functions == []


def test_every_module_and_public_class_says_what_it_is() -> None:
    silent = []
    for path in sources():
        tree = ast.parse(path.read_text())
        if path.read_text().strip() and ast.get_docstring(tree) is None:
            silent.append(str(path.relative_to(ROOT)))
        silent += [
            f"{path.relative_to(ROOT)}: {node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ]
    assert silent == []


def test_nothing_is_left_undone() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [str(path.relative_to(ROOT)) for path in sources() if marks.search(path.read_text())] == []


@pytest.mark.parametrize(
    "target", ["demo", "test", "lint", "bench", "chaos", "kafka", "kafka-stop", "wheel", "clean"]
)
def test_make_has_the_targets_that_the_documentation_names(target: str) -> None:
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert shown.returncode == 0, shown.stderr


def test_make_says_what_to_do_about_an_old_python(tmp_path: Path) -> None:
    # Given a Python that is too old, and a place without an environment
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "pyproject.toml").touch()

    # When somebody runs the demo with it
    run = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "demo", f"PYTHON={old}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )

    # Then one sentence names it, the rule, and what to do
    assert run.returncode != 0
    assert f"{old} is Python 3.9.2, but Python 3.11 or newer is needed: install one" in run.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_pipeline_is_a_program() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True, timeout=30)
