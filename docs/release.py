"""Build what a registry gets: the wheel and the sources, with a README whose links and pictures are found from anywhere.

A registry's page shows the README alone, so that `docs/demo.png` would be a broken picture there. The project does not know where it is
published; whoever publishes it does:

    python docs/release.py --home https://example.org/evonas --pictures https://example.org/evonas/raw/v0.1.0 --out dist
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("evonas", "predictors", "supernet", "recipes", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")


def absolute(text: str, home: str, pictures: str) -> str:
    """A README with every relative link under `home`, and every relative picture under `pictures`."""
    text = re.sub(r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)", rf"![\1]({pictures}/\2)", text)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", rf"[\1]({home}/\2)", text)


def with_urls(project: str, home: str) -> str:
    """`pyproject.toml` with the project's addresses."""
    urls = f'[project.urls]\nHomepage = "{home}"\nChanges = "{home}/CHANGELOG.md"\nEvidence = "{home}/docs/evidence.md"\n\n'
    return project.replace("[project.scripts]", urls + "[project.scripts]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", required=True, help="address that files of the project are under, for people")
    parser.add_argument("--pictures", required=True, help="address that its files are under as they are")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    asked = parser.parse_args()
    home, pictures = asked.home.rstrip("/"), asked.pictures.rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "evonas"
        copy.mkdir()
        for name in FILES:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        (copy / "README.md").write_text(absolute((ROOT / "README.md").read_text(encoding="utf-8"), home, pictures), encoding="utf-8")
        (copy / "pyproject.toml").write_text(with_urls((ROOT / "pyproject.toml").read_text(encoding="utf-8"), home), encoding="utf-8")
        wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(asked.out.resolve()), str(copy)]
        subprocess.run(wheel, check=True)
        sources = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", sources, str(asked.out.resolve())], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    for file in sorted(asked.out.glob("evonas-*")):
        print(file)


if __name__ == "__main__":
    main()
