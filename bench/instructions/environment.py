"""What counts depend on beside the code: held still where that can be done, and written down where it cannot.

The C library and aws-lc choose among implementations by what the processor has. They are told to take those that every
x86_64 has. Other choices are left: the compiler's, valgrind's, and those of crates that look for AVX2 by themselves.
"""

import platform
import re
import subprocess
from pathlib import Path

ARCHITECTURE = "x86_64"
# No copying by `rep movsb`, which counts a byte as an instruction, and none by wider registers than SSE's.
TUNABLES = "glibc.cpu.hwcaps=-AVX2,-AVX,-ERMS,-AVX_Fast_Unaligned_Load,-Prefer_No_VZEROUPPER,-FSRM,-AVX512F,-AVX512VL"
# The second word, all of it: AVX2, BMI, ADX and what came after them. AES and carry-less multiplication stay.
AWS_LC = "~0x0:~0xffffffffffffffff"


def variables(inherited):
    """The environment of every program that is counted: no setting of Weft's comes in from outside."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("WEFT")}
    return {**kept, "GLIBC_TUNABLES": TUNABLES, "OPENSSL_ia32cap": AWS_LC, "LC_ALL": "C"}


def describe():
    """What this machine has of what counts depend on, for the baseline."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "architecture": platform.machine(),
        "rustc": first_line("rustc", "--version"),
        "valgrind": first_line("valgrind", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "avx2": bool(flags) and "avx2" in flags[1].split(),
    }


def first_line(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.partition("\n")[0]
