"""Laws of the package's shape: imports point one way, importing is light, files and functions stay small."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skillfactory

ROOT = Path(skillfactory.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PAGES = sorted([*ROOT.parent.glob("*.md"), *ROOT.parent.glob("docs/*.md")])
HEAVY = {"torch", "transformers", "tokenizers", "vllm", "datasets", "aiohttp", "pandas", "trl", "ray", "sympy", "reasoning_gym"}
HEAVY |= {"fsspec", "upath"}

# layer: its modules; the layers that they may import beside their own. A new module has to be placed here.
LAYERS = {
    "ground": ("errors places records seeds significance stats votes progress funnel embedded hardware skillset", ""),
    "language": (
        "values config markup patterns flow rows traces tracefiles masks encoding machines holding skills forecast",
        "ground",
    ),
    "material": ("tasks prompts layouts suites supply reward", "ground language"),
    "stages": (
        "budget deck doctor curate build audit forcing grade export evaluate examination intervene measure",
        "ground language material",
    ),
    "engines": ("engines", "ground language"),
    "run": ("pieces ledger rundir blocks run", "ground language"),
    "report": ("report", "ground language"),
    "meeting": (
        "budgeting cluster curation evaluation intervention outputs published serving summary usage",
        "ground language material stages engines run",
    ),
    "gathering": ("gathering", "ground language material stages run report meeting trainers"),
    "comparing": ("comparing", "ground language material stages run report meeting gathering"),
    "view": ("view", "ground language material report meeting"),
    "mini": ("mini", "ground language material run"),
    "trainers": ("train", "ground language material engines run"),
    "studies": ("study", "ground language material stages run meeting report gathering mini trainers"),
    "front": (
        "commands cli __main__",
        "ground language material stages engines run meeting gathering comparing view mini trainers studies",
    ),
}
PLACE = {module: layer for layer, (modules, _) in LAYERS.items() for module in modules.split()}


def group(path: Path) -> str:
    """The module or sub-package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The modules and sub-packages of ours that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "skillfactory" and parts[1] in PLACE:
                yield parts[1]


MODULES = sorted({group(path) for path in FILES} - {"__init__"})
IMPORTS = {module: {name for path in FILES if group(path) == module for name in imported(path)} for module in MODULES}


def test_every_module_has_its_place_and_every_place_a_module() -> None:
    assert sorted(PLACE) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    layer = PLACE[module]
    allowed = {layer, *LAYERS[layer][1].split()}
    wrong = sorted(name for name in IMPORTS[module] if PLACE[name] not in allowed)
    assert not wrong, f"{module} ({layer}) imports {wrong}"


def test_no_module_imports_itself_in_a_round() -> None:
    order = TopologicalSorter({module: IMPORTS[module] - {module} for module in MODULES}).static_order()
    assert set(order) >= set(MODULES)  # a round raises CycleError, which names its modules


def test_the_package_and_the_options_of_every_command_load_no_heavy_library() -> None:
    code = "import sys, skillfactory, skillfactory.cli\nfrom skillfactory.commands import COMMANDS\n"
    code += "for command in COMMANDS.values(): command.config()\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    named = [name for name in re.findall(r"`((?:docs|recipes|examples|benchmarks)/[\w./-]+\.\w+)`", text) if "<" not in name]
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in named if not (ROOT.parent / name).exists()]
    assert not missing


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400, f"{path.name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert length <= 60, f"{node.name} has {length} lines"
            assert len([name for name in names if name not in ("self", "cls")]) <= 7, f"{node.name} has too many parameters"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_and_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{path.name} has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
