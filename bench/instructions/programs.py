"""The programs of a count: the sidecar and the steps as they are shipped, with optimisation; and what counts them.

`WEFT_PROXY`, `WEFT_STEPS` and `WEFT` (the control plane, in any build) name binaries instead of building them.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from instructions import environment
from sidecars.programs import ROOT, TARGET, Missing, given, run


@dataclass(frozen=True)
class Programs:
    sidecar: Path
    steps: Path
    control_plane: Path
    # The variables that all of them get.
    environment: dict


def provide():
    """Every program that is needed; builds those that are not given."""
    for program in ("valgrind", "vgdb"):
        if not shutil.which(program):
            raise Missing(f"{program} is not on the path: apt-get install valgrind")
    sidecar, steps, control_plane = given("WEFT_PROXY"), given("WEFT_STEPS"), given("WEFT")
    if not (sidecar and steps):
        run("cargo", "build", "--release", "-p", "weft-proxy", "-p", "weft-bench-steps", cwd=ROOT)
    if not control_plane:
        run("cargo", "build", "-p", "weft", cwd=ROOT)
    return Programs(Path(sidecar or TARGET / "release/weft-proxy"), Path(steps or TARGET / "release/weft-bench-steps"),
                    Path(control_plane or TARGET / "debug/weft"), environment.variables(os.environ))
