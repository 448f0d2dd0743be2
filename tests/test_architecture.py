"""The house: imports point down only, no folders in a circle, TensorFlow out of quick commands."""

import ast
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "monitor"
PAGES = sorted(PACKAGE.rglob("*.py"))


def test_imports_only_point_down_the_rooms() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program], cwd=TOP, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_package_holds_rooms_only() -> None:
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py"}


def imported(page: Path) -> set[Path]:
    """The folders of the package that a page imports from."""
    found = set()
    for node in ast.walk(ast.parse(page.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        for parts in (name.split(".") for name in names if name.startswith("monitor.")):
            for end in range(len(parts), 1, -1):
                place = TOP.joinpath(*parts[:end])
                if place.with_suffix(".py").is_file():
                    found.add(place.parent)
                    break
                if place.is_dir():
                    found.add(place)
                    break
    return found


def test_no_folders_import_each_other_in_a_circle() -> None:
    arrows: dict[Path, set[Path]] = {}
    for page in PAGES:
        if page.parent != PACKAGE:
            arrows.setdefault(page.parent, set()).update(imported(page) - {page.parent})
    done: set[Path] = set()

    def walk(folder: Path, way: tuple[Path, ...]) -> None:
        assert folder not in way, " -> ".join(str(p.relative_to(TOP)) for p in (*way, folder))
        if folder not in done:
            for other in arrows.get(folder, ()):
                walk(other, (*way, folder))
            done.add(folder)

    for folder in arrows:
        walk(folder, ())


def test_every_public_thing_says_what_it_is() -> None:
    for page in PAGES:
        tree = ast.parse(page.read_text())
        nodes = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef))]
        for node in nodes:
            name = getattr(node, "name", page.name)
            if not name.startswith("_"):
                assert ast.get_docstring(node), f"{name} in {page} has no docstring"


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
