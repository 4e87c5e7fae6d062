"""Every public name has its place in the documentation, and the documentation names nothing that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

import polypath
from polypath import data
from polypath.cli import app
from polypath.data.own import METRICS as OWN_METRICS
from polypath.data.own import OwnConfig, OwnTask
from polypath.methods import METHODS, method_class
from polypath.metrics.table import METRICS
from polypath.nn.backbones import BACKBONES
from polypath.ops.losses import LOSSES
from polypath.recipes import RECIPES
from polypath.testing import LAWS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "polypath"
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *DOCS.rglob("*.md")]}
# Pages that keep what was: they may name what is gone.
HISTORY = {"docs/log.md", "docs/changelog.md"}
PROGRAM = typer.main.get_command(app)
assert isinstance(PROGRAM, TyperGroup)
COMMANDS = PROGRAM.commands


def coded(text: str) -> set[str]:
    """Words in backticks outside of code blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_its_page(name: str) -> None:
    text = PAGES["docs/cli.md"]
    assert re.search(rf"^\| `.*\b{name}\b", text, re.M), "a row in the table of commands"
    options = [option for parameter in COMMANDS[name].params for option in [*parameter.opts, *parameter.secondary_opts]]
    assert [option for option in options if option.startswith("--") and not re.search(rf"{option}\b", text)] == []


def test_options_of_the_program_itself_are_on_the_page() -> None:
    options = [option for parameter in PROGRAM.params for option in parameter.opts]
    assert [option for option in options if option not in PAGES["docs/cli.md"]] == []


@pytest.mark.parametrize("page", sorted(set(PAGES) - HISTORY))
def test_commands_in_examples_exist_with_their_options(page: str) -> None:
    text = re.sub(r"\\\n\s*", " ", PAGES[page])
    for block in re.findall(r"^```(?:sh|text)?\n(.*?)^```", text, re.M | re.S):
        for name, rest in re.findall(r"\bpolypath ([a-z]+)\b([^\n#]*)", block):
            assert name in COMMANDS, f"polypath {name}"
            rest = re.split(r"\s{2,}polypath ", rest)[0]  # several in a line of an overview
            known = {o for p in COMMANDS[name].params for o in [*p.opts, *p.secondary_opts]}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known | {"--help"}, f"polypath {name}{rest}"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page_in_the_menu_a_row_and_an_example(name: str) -> None:
    text = PAGES[f"docs/methods/{name}.md"]
    assert f"methods/{name}.md" in (ROOT / "mkdocs.yml").read_text()
    assert f"| `{name}`" in PAGES["README.md"] and f"`{name}`" in PAGES["docs/architecture.md"]
    cls = method_class(name)
    assert f"`{cls.__module__}`" in text and f"`{cls.__name__}`" in text, "the page says where the code is"
    assert re.search(rf'pp\.learn\(\s*"{name}"', text), "an example that runs"
    assert any(word in text for word in ("exact", "joint", "drifts")), "the page says what a new task does to old ones"


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_backbone_has_a_section(kind: str) -> None:
    assert f"## `{kind}`" in PAGES["docs/backbones.md"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_on_the_page_of_its_method(name: str) -> None:
    method, _, short = name.partition("/")
    text = PAGES[f"docs/methods/{method}.md"]
    assert f"`{name}`" in text or f"`{short}`" in text


def test_recipes_that_are_named_exist() -> None:
    papers = "|".join(sorted({name.partition("/")[0] for name in RECIPES}))
    named = {
        (page, name)
        for page, text in PAGES.items()
        for name in re.findall(rf"polypath (?:run|recipes) ((?:{papers})/\w+)|`((?:{papers})/\w+)`", text)
        for name in name
        if name and page not in HISTORY
    }
    assert {(page, name) for page, name in named if name not in RECIPES} == set()


def test_the_catalogue_is_on_the_page_of_data() -> None:
    text = PAGES["docs/data.md"].partition("## The catalogue")[2]
    assert set(data.CATALOGUE) - coded(text) == set()


def test_every_function_of_data_is_on_its_page() -> None:
    text = PAGES["docs/data.md"]
    assert [name for name in data.__all__ if name not in text] == []


def test_every_key_of_a_tasks_file_is_on_the_page_of_data() -> None:
    told = coded(PAGES["docs/data.md"])
    assert set(OwnTask.model_fields) - told == set()
    assert set(OwnConfig.model_fields) - {"kind", "tasks"} - told == set()


def test_losses_and_metrics_are_on_the_page_of_data() -> None:
    told = coded(PAGES["docs/data.md"])
    assert set(LOSSES) - told == set()
    assert (set(METRICS) | set(OWN_METRICS)) - told == set()


def test_every_law_is_on_the_page_of_laws() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGES["docs/extend/laws.md"], re.M)
    assert sorted(told) == sorted(LAWS)
    assert f"the exam: {len(LAWS)} laws" in PAGES["docs/architecture.md"]


def test_every_public_name_is_on_the_page_of_reference() -> None:
    text = PAGES["docs/reference/index.md"]
    assert [name for name in polypath.__all__ if name != "__version__" and f"`polypath.{name}`" not in text] == []


def test_every_module_that_pages_name_exists() -> None:
    """A name like `polypath.nn.grid` or `polypath.system.System` in backticks, or after `:::` in the reference."""
    wrong = set()
    for page, text in PAGES.items():
        for name in set(re.findall(r"`(polypath(?:\.\w+)+)", text)) | set(re.findall(r"^::: ([\w.]+)", text, re.M)):
            if page not in HISTORY and not exists(name):
                wrong.add((page, name))
    assert wrong == set()


def exists(name: str) -> bool:
    parts = name.split(".")[1:]
    path = SOURCE
    while parts and ((path / parts[0]).is_dir() or (path / f"{parts[0]}.py").is_file()):
        path = path / parts[0] if (path / parts[0]).is_dir() else path / f"{parts[0]}.py"
        parts = parts[1:]
    if not parts:
        return True
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path).read_text())
    defined = {
        *(getattr(node, "name", "") for node in ast.walk(tree)),
        *(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)),
        *(str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)),  # tables of names
    }
    return all(part in defined for part in parts[:1])


REFERENCE = {name for text in PAGES.values() for name in re.findall(r"^::: ([\w.]+)", text, re.M)}
# How things are done, in rooms that methods of others build on.
INTERNAL = {"changes", "files", "pixels", "column_names", "outlined_layers", "patches", "subnet_values", "told"}


@pytest.mark.parametrize("room", ["core", "ops", "nn", "methods", "metrics"])
def test_every_module_of_the_rooms_that_others_build_on_is_in_the_reference(room: str) -> None:
    modules = {
        f"polypath.{room}.{path.stem}"
        for path in (SOURCE / room).glob("*.py")
        if not path.stem.startswith("_") and path.stem not in INTERNAL and public(path)
    }
    assert sorted(modules - REFERENCE) == []


def test_what_examples_import_is_in_the_reference() -> None:
    """`from polypath.MODULE import NAME` of a page: the module is described, or what it takes the name from."""
    missing = set()
    for page, text in PAGES.items():
        for module in re.findall(r"^from (polypath\.[\w.]+) import ", text, re.M):
            described = any(name == module or name.startswith(f"{module}.") for name in REFERENCE)
            if page not in HISTORY and not described:
                missing.add((page, module))
    assert missing == set()


def public(path: Path) -> bool:
    """Whether a module defines a class or function with a name that does not begin with an underscore."""
    defined = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    return any(not node.name.startswith("_") for node in defined)


def test_every_page_is_in_the_menu_or_included_by_one_that_is() -> None:
    menu = yaml.safe_load(re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text()))["nav"]
    sections = [next(iter(entry)) for entry in menu]
    assert len(sections) == len(set(sections)), "a section twice"
    told = set(re.findall(r"[\w/]+\.md", str(menu)))
    assert told == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_every_module_of_the_facade_is_on_the_map() -> None:
    text = PAGES["docs/architecture.md"]
    assert [path.name for path in SOURCE.glob("*.py") if path.stem[0] != "_" and path.name not in text] == []
    assert [
        path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file() and f"{path.name}/" not in text
    ] == []


def test_every_error_and_what_else_it_is_is_on_the_page_of_systems() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", PAGES["docs/system.md"].partition("## Errors")[2], re.M))
    found = {
        name: {base.__name__ for base in error.__bases__} - {"PolypathError"}
        for name, error in vars(polypath.errors).items()
        if isinstance(error, type) and issubclass(error, polypath.errors.PolypathError)
    }
    del found["PolypathError"]
    assert {name: coded(also) for name, also in rows.items()} == found


def test_what_a_system_can_do_is_told() -> None:
    text = "".join(page for name, page in PAGES.items() if name not in HISTORY and "/reference/" not in name)
    public = {name for name in dir(polypath.System) if not name.startswith("_")}
    internal = {"kept_on_error", "load_all", "probe_answer", "bring", "note"}  # for learning, saving and proving
    assert [name for name in sorted(public - internal) if name not in text] == []


def test_the_sections_of_a_report_are_on_its_page() -> None:
    template = (SOURCE / "report" / "templates" / "report.html.j2").read_text()
    rows = re.findall(r"^\| ([A-Z][\w, ]+?) \|", PAGES["docs/report.md"].partition("## What the page says")[2], re.M)
    told = [name for row in rows for name in row.split(", ")]
    assert told == re.findall(r'<h2 id="\w+">([^<]+)</h2>', template)


def test_pages_that_the_code_sends_people_to_exist() -> None:
    named = {
        name
        for path in [*SOURCE.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), ROOT / "Makefile"]
        for name in re.findall(r"docs/[\w/]+\.(?:md|json)", path.read_text())
    }
    assert "docs/data.md" in named and [name for name in sorted(named) if not (ROOT / name).is_file()] == []
