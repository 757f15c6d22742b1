"""What strict validation costs beside a parse: a program of the tree, built with the profile for measures."""

import re
import shutil

from .cluster import TREE, run

TIMED = ["cargo", "run", "--quiet", "--profile", "measure", "--locked", "--features", "measure", "--bin", "strict_validation"]


def strict(table, arguments):
    if not shutil.which("cargo"):
        print("SKIPPED strict validation beside a parse: it is a program of the tree, and there is no cargo to build it")
        return
    out = run("env", "-C", TREE, *TIMED)
    ratio = float(re.search(r"validation \S+, ([\d.]+) of it", out).group(1))
    table.add("reading by the type with strict validation, of a bare parse", ratio, "times", below=1.33)


MEASUREMENTS = {"strict": strict}
