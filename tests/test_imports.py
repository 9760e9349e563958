"""What is imported when: a person who types `--help` or `import evonas` waits for nothing that is not needed there."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch",
    "torchvision",
    "sklearn",
    "xgboost",
    "matplotlib",
    "pandas",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "sympy",
    "jinja2",
    "scipy.stats",
    "scipy.optimize",
    "IPython",
}
LIGHT = {  # all that may come with the search, beside the standard library
    *("evonas", "numpy", "optuna", "deap", "sqlalchemy", "pydantic", "pydantic_core", "psutil", "filelock", "rich", "yaml"),
    *(
        "colorlog",
        "packaging",
        "tqdm",
        "typing_extensions",
        "annotated_types",
        "typing_inspection",
        "greenlet",
        "moocore",
        "platformdirs",
        "cffi",
        "colorama",
    ),
    *("typer", "click", "shellingham", "annotated_doc", "pygments", "markdown_it", "mdurl", "recipes"),
}
COMMAND = """
import sys; sys.argv = ["evonas", "{}"]
from evonas.__main__ import main
try: main()
except SystemExit: pass
"""
ASKED = {"import evonas": "import evonas", **{f"evonas {option}": COMMAND.format(option) for option in ("--help", "--version")}}
TOLD = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize("what", ASKED)
def test_only_light_modules_are_imported(what):
    done = subprocess.run([sys.executable, "-c", ASKED[what] + TOLD], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    assert "numpy" in modules
    assert not HEAVY & set(modules)
    standard = sys.stdlib_module_names
    outer = {name.partition(".")[0] for name in modules if not name.startswith(("_", "__"))}
    assert outer - standard - LIGHT - {"mypyc"} == set()


def test_the_help_that_is_read_from_sources_is_that_of_the_recipes():
    from recipes.runner import cli
    from recipes.runner.devices import devices
    from recipes.runner.export import export_run
    from recipes.runner.front import pick
    from recipes.runner.measure import measure_device
    from recipes.runner.outline import documented, outlines
    from recipes.runner.predict import predict
    from recipes.runner.registry import RECIPES

    assert outlines() == {
        name: inspect.getdoc(entry.make) for name, entry in RECIPES.items() if entry.make.__module__.startswith("recipes.")
    }
    words = {name: documented(Path(cli.__file__).with_name(file), function) for name, (file, function) in cli.OTHERS.items()}
    commands = {"measure": measure_device, "pick": pick, "predict": predict, "export": export_run, "devices": devices}
    assert words == {name: inspect.getdoc(command) for name, command in commands.items()}


@pytest.mark.parametrize(
    ("line", "offered"), [("evonas mo", "mobile"), ("evonas mobile --retr", "--retrain-epochs"), ("evonas measure --com", "--command")]
)
def test_the_shell_completes_commands_and_options(line, offered):
    environment = {**os.environ, "_EVONAS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    code = COMMAND.format("evonas").replace('["evonas", "evonas"]', '["evonas"]')
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [offered]
