"""What strict validation costs beside a parse: the timed test of the tree, built with the profile for them."""

import re
import shutil

from .cluster import TREE, run

TIMED = ["cargo", "test", "--profile", "measure", "--locked", "--test", "orch", "schema_bench", "--", "--ignored", "--nocapture"]


def strict(table, arguments):
    if not shutil.which("cargo"):
        print("SKIPPED strict validation beside a parse: it is a timed test of the tree, and there is no cargo")
        return
    out = run("env", "-C", TREE, *TIMED)
    ratio = float(re.search(r"validation \S+, ([\d.]+) of it", out).group(1))
    table.add("reading by the type with strict validation, of a bare parse", ratio, "times", below=1.33)


MEASUREMENTS = {"strict": strict}
