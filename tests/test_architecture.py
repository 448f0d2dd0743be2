"""The house: imports point down only, pages stay short, TensorFlow stays out of quick commands."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGES = sorted((TOP / "monitor").rglob("*.py"))
PAGE_LINES = 310
"""A page is 300 lines (STYLE.md); ten lines of grace before it has to be split by meaning."""


def test_imports_only_point_down_the_layers() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program], cwd=TOP, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_every_module_stands_in_the_list_of_layers() -> None:
    layers = (TOP / ".importlinter").read_text().partition("[importlinter:contract:sql]")[0]
    listed = set(re.findall(r"monitor[.\w]+", layers))
    for page in PAGES:
        parts = ("monitor", *page.relative_to(TOP / "monitor").with_suffix("").parts)
        names = {".".join(parts[:end]) for end in range(2, len(parts) + 1)}
        if page.name not in ("__init__.py", "__main__.py"):
            assert names & listed, f"{page} has no place among the layers"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_a_page_stays_a_page(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= PAGE_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(TOP)))
def test_every_public_thing_says_what_it_is(page: Path) -> None:
    tree = ast.parse(page.read_text())
    nodes = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef))]
    for node in nodes:
        name = getattr(node, "name", page.name)
        if not name.startswith("_"):
            assert ast.get_docstring(node), f"{name} in {page.name} has no docstring"


def test_nothing_that_can_run_code_is_ever_loaded() -> None:
    for page in PAGES:
        for node in ast.walk(ast.parse(page.read_text())):
            names = []
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "marshal", "shelve", "dill", "joblib"} & set(names), page
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "os.system", "yaml.load"}, page
                if page.name == "ncnn_stack.py" and called == "network.load_model":
                    continue  # ncnn's own: raw float32 numbers, their SHA-256 compared before
                assert not called.endswith(("load_model", "np.load")), page


def test_quick_commands_import_neither_tensorflow_nor_numpy() -> None:
    code = (
        "import sys; import monitor.cli; from monitor.log.species_log import open_log;"
        "print(sorted({'tensorflow', 'keras', 'numpy', 'alembic', 'apscheduler', 'PIL'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
