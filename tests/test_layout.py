"""The shape of the repository: who may import whom, packages named in setup.cfg, no shadowed names, small files."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

from models import families

ROOT = Path(__file__).resolve().parents[1]
TOP = ("dags", "feature_store", "jobs", "models", "tests")
STDLIB = set(sys.stdlib_module_names)
OURS = {"feature_store", "jobs", "models"}
# What a folder may import besides the standard library and itself (DESIGN: DAGs and jobs meet only at the command
# line).
ALLOWED = {
    "dags": {"airflow", "yaml", "dagkit", "models.families", "kubernetes", "urllib3"},
    "feature_store": {"pyarrow", "numpy", "xxhash"},
    "models": {"torch", "numpy", "scipy", "sklearn", "numba", "llvmlite", "triton", "safetensors", "xgboost", "gensim"},
    "jobs": {
        "models",
        "feature_store",
        "yaml",
        "numpy",
        "pyarrow",
        "pandas",
        "pyspark",
        "py4j",
        "torch",
        "safetensors",
        "scipy",
        "sklearn",
        "threadpoolctl",
        "xgboost",
        "jinja2",
        "markupsafe",
        "tqdm",
        "great_expectations",
        "argcomplete",
        "deltalake",
        "pyiceberg",
    },
}
EXCEPTIONS = {("models/messages/passing.py", "dgl"), ("jobs/quality/check.py", "great_expectations")}
ONLY_THERE = {
    "argcomplete": "jobs/command.py",
    "deltalake": "jobs/events/lake_tables.py",
    "pyiceberg": "jobs/events/lake_tables.py",
    "dgl": "models/messages/passing.py",
    "gensim": "models/vectors/content.py",
    "great_expectations": "jobs/quality/check.py",
    "kubernetes": "dags/dagkit/pods.py",
    "urllib3": "dags/dagkit/pods.py",
}
# Imports inside a function are paid for only by who calls it: the reader's pandas output needs pandas there alone.
INSIDE_FUNCTIONS = {("feature_store", "pandas"), ("feature_store", "obstore"), ("feature_store", "boto3")}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(dotted name, line, is inside a function or for type checkers only) of every import, by line.

    `from a import b` counts as a.b, which may be a module of a or what stands in it.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(n) for b in ast.walk(tree) if _is_inner(b) for n in ast.walk(b)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, id(node) in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(f"{node.module}.{alias.name}", node.lineno, id(node) in inner) for alias in node.names]
    return sorted(found, key=lambda f: f[1])


def _is_inner(block: ast.AST) -> bool:
    of_checkers = isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
    return isinstance(block, ast.FunctionDef) or of_checkers


def allowed(dotted: str, folder: str) -> bool:
    """Whether a name, or what it stands in, is among those that the folder may import."""
    parts = dotted.split(".")
    return any(".".join(parts[:n]) in ALLOWED[folder] for n in range(1, len(parts) + 1))


@pytest.mark.parametrize("folder", ALLOWED)
def test_who_may_import_whom(folder: str) -> None:
    wrong = []
    for path in python_files(folder):
        place = path.relative_to(ROOT).as_posix()
        for dotted, line, inside in imports(path):
            name = dotted.split(".")[0]
            fine = name in STDLIB or name == folder or allowed(dotted, folder) or (place, name) in EXCEPTIONS
            fine = fine or (inside and (folder, name) in INSIDE_FUNCTIONS)
            if not fine or ONLY_THERE.get(name, place) != place:
                wrong.append(f"{place}:{line} imports {dotted}")
    assert not wrong, "\n".join(wrong)


def test_the_rule_would_be_broken_by_a_wrong_import(tmp_path: Path) -> None:
    """The reading of imports finds them wherever they hide."""
    path = tmp_path / "x.py"
    path.write_text(
        "import os\ndef f():\n    from jobs.tables import TABLES\nif True:\n    import pandas as pd\n", encoding="utf-8"
    )
    assert imports(path) == [("os", 1, False), ("jobs.tables.TABLES", 3, True), ("pandas", 5, False)]
    assert allowed("models.families", "dags") and allowed("models.families.FAMILIES", "dags")
    assert not allowed("models.graph", "dags") and not allowed("models", "dags")


def modules_imported(path: Path, modules: set[str]) -> set[str]:
    """Those of `modules` that a file imports anywhere, also inside functions and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & modules


@pytest.mark.parametrize("folder", ["feature_store", "jobs/configuration"])
def test_no_module_imports_itself_by_way_of_others(folder: str) -> None:
    """A module that leads nowhere but to modules that lead nowhere is no part of a circle; what remains is one, or
    leads into one."""
    files = {p.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): p for p in python_files(folder)}
    leads_to = {name: modules_imported(path, set(files)) for name, path in files.items()}
    while ends := {name for name, others in leads_to.items() if not others}:
        leads_to = {name: others - ends for name, others in leads_to.items() if name not in ends}
    assert not leads_to


@pytest.mark.parametrize("package", ["jobs", "models"])
def test_package_files_stay_empty(package: str) -> None:
    """What a package's `__init__.py` imports, every job pays for at start."""
    heavy = [
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / package).rglob("__init__.py")
        if ast.parse(p.read_text(encoding="utf-8")).body[1:]
    ]
    assert not heavy


def test_every_folder_of_tests_is_a_package() -> None:
    """Else tests/models would shadow models."""
    folders = {p.parent for p in python_files("tests")}
    assert not [f for f in folders if not (f / "__init__.py").exists()]


def test_setup_cfg_lists_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(setup["options"]["packages"].split())
    present = {
        p.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for top in OURS
        for p in (ROOT / top).rglob("__init__.py")
    }
    assert listed == present
    folders = {p.parent for top in OURS for p in python_files(top)}
    assert not [f for f in folders if not (f / "__init__.py").exists()], "a folder with modules that is no package"


def test_no_module_is_named_after_one_of_the_standard_library() -> None:
    names = [p for top in TOP for p in python_files(top) if p.stem in STDLIB and p.stem != "__main__"]
    assert not names


def test_nothing_in_the_dags_folder_shadows_a_package() -> None:
    """Airflow puts the DAGs folder on the path."""
    assert not [p.name for p in (ROOT / "dags").iterdir() if p.stem in OURS | {"tests"}]


def test_files_are_small() -> None:
    """About 200 lines; never above 350, where a second idea is in it."""
    lines = {p: len(p.read_text(encoding="utf-8").splitlines()) for top in TOP for p in python_files(top)}
    assert not {p.relative_to(ROOT).as_posix(): n for p, n in lines.items() if n > 350}


def test_lines_are_short() -> None:
    """At most 120 characters."""
    wrong = []
    for path in (p for top in TOP for p in python_files(top)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > 120:
                wrong.append(f"{path.relative_to(ROOT).as_posix()}:{number} has {len(line)}")
    assert not wrong, "\n".join(wrong)


def families_named_in(text: str, stem: str) -> set[str]:
    """Families whose name or title stands in a text between other characters than letters; not those of the stem."""
    names = {word.lower(): family.name for family in families.FAMILIES for word in (family.name, family.title)}
    words = "|".join(map(re.escape, names))
    found = {names[m.group().lower()] for m in re.finditer(rf"(?<![a-z])({words})(?![a-z])", text, re.IGNORECASE)}
    return {name for name in found if name not in stem}


def scanned_text(path: Path) -> str:
    """What a file says; of the contracts those of all tables but a family's own."""
    text = path.read_text(encoding="utf-8")
    if path != ROOT / "jobs" / "tables.py":
        return text
    entry = r'^    "attention": Contract\(.*?(?=^    "\w+": Contract\()'
    return re.sub(entry, "", text, flags=re.MULTILINE | re.DOTALL)


def test_no_family_is_named_outside_its_own_modules() -> None:
    """A new family is a record and the modules that it names: nobody else may know one (DESIGN, section 3)."""
    wrong = []
    for path in (p for top in ("dags", "jobs", "feature_store") for p in (ROOT / top).rglob("*")):
        if path.suffix in (".py", ".jinja", ".css"):
            for number, line in enumerate(scanned_text(path).splitlines(), 1):
                named = families_named_in(line, path.stem)
                wrong += [f"{path.relative_to(ROOT).as_posix()}:{number} names {name}" for name in named]
    assert not wrong, "\n".join(wrong)


def test_the_scan_finds_a_family_wherever_it_is_named() -> None:
    assert families_named_in("the stage smooth_kqgc_mean, of TransE's vectors", "night") == {"kqgc", "transe"}
    assert families_named_in("transects and RHGNs", "night") == set(), "part of another word"
    assert families_named_in("RHGN", "rhgn_head") == set() == families_named_in("kqgc_mean", "smooth_kqgc")
    assert "attention in" in (ROOT / "jobs" / "tables.py").read_text(encoding="utf-8")
    assert "attention in" not in scanned_text(ROOT / "jobs" / "tables.py"), "its own table's contract is left out"


def test_functions_are_short_and_typed() -> None:
    """At most 70 lines; what a public function returns is said (compiled kernels infer it)."""
    wrong = []
    for top in TOP:
        for path in python_files(top):
            for f in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(f, ast.FunctionDef):
                    continue
                place = f"{path.relative_to(ROOT).as_posix()}:{f.lineno} {f.name}"
                if (f.end_lineno or 0) - f.lineno > 70:
                    wrong.append(f"{place} has more than 70 lines")
                if f.returns is None and top in OURS and not f.name.startswith("_") and "kernels" not in path.parts:
                    wrong.append(f"{place} does not say what it returns")
    assert not wrong, "\n".join(wrong)


def test_nothing_names_this_machine() -> None:
    """No absolute paths of a home or a workplace in what is committed."""
    own = [str(ROOT.parent) + "/", str(Path.home()) + "/"]
    own = [o for o in own if len(o) > 3]
    texts = [
        p
        for top in (*TOP, ".ci")
        for p in (ROOT / top).rglob("*")
        if p.suffix in {".py", ".yaml", ".md", ".txt", ".cfg", ""} and p.is_file()
    ]
    own_files = (p for p in ROOT.iterdir() if p.name != ".git")  # a file that names the checkout, in a worktree
    texts += [p for p in own_files if p.is_file() and p.suffix in {".md", ".txt", ".cfg", ".toml", ""}]
    found = [f"{p.relative_to(ROOT)}: {o}" for p in texts for o in own if o.encode() in p.read_bytes()]
    assert not found


def test_constraints_name_versions_only() -> None:
    """Frozen from a working environment, without local builds, addresses or paths."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        assert name and version and not set("+/@ ") & set(line), line
