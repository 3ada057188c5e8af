"""The page of the wheel, beside which no file of this folder lies; all else: pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

page = Path("README.md").read_text(encoding="utf-8")
# Pictures of this folder are left out there; links to its files are their words alone.
page = re.sub(r"!\[[^]]*\]\((?!https?://)[^)]*\)\n*", "", page)
page = re.sub(r"\[([^]]*)\]\((?!https?://)[^)]*\)", r"\1", page)
setup(long_description=page, long_description_content_type="text/markdown")
