"""What callgrind has counted: its files of costs, read by function.

Comes in: the text of a callgrind.out file. Goes out: instructions of each function's own, by name. Format:
https://valgrind.org/docs/manual/cl-format.html.
"""

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

# aws-lc's symbols begin with its version, aws_lc_0_47_0_. Not so those that are local: of its assembly, which is nearly all
# that it executes, and of its static functions, of which those that seal and open records are called most.
CRYPTO = re.compile(r"^(aws_lc_[0-9]|aead_|_*(aesni|vpaes|ecp_nistz256)_|L?(bignum|curve25519|p256|p384|p521)_)")


class NotCounted(Exception):
    """A file of costs says nothing of what is wanted, or is none."""


def costs(text):
    """Instructions by function, what it calls not counted in."""
    if not re.search(r"^events:(.*\s)?Ir(\s|$)", text, re.M):
        raise NotCounted("no line `events: Ir`: this is no callgrind file, or instructions were not counted")
    names, counts = {}, Counter()
    function, is_call = None, False
    for line in text.splitlines():
        if line.startswith("fn="):
            function = name_of(line[3:], names)
        elif line.startswith(("cfn=", "cfi=", "cfl=", "cob=")):
            # Names of all kinds have numbers of their own; only functions' are wanted.
            if line.startswith("cfn="):
                name_of(line[4:], names)
        elif line.startswith("calls="):
            is_call = True
        elif function is not None and re.match(r"[0-9+*-]", line):
            # The line after `calls=` is what was called, and counted there.
            if not is_call:
                counts[function] += int(line.split()[1])
            is_call = False
    return counts


def name_of(words, names):
    """A function's name: `(7) name` where it is first met, `(7)` from then on."""
    number, name = re.match(r"(\(\d+\))? ?(.*)", words).groups()
    if name and number:
        names[number] = name
    return names.get(number, name)


def instructions(counts, with_crypto):
    """All instructions; without those of the cryptographic library, unless they are wanted."""
    return sum(count for name, count in counts.items() if with_crypto or not is_crypto(name))


def is_crypto(name):
    return bool(CRYPTO.search(name))


def command(out, *options):
    """The words before a program's own, so that its costs come to lie in this file."""
    return ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}", *options]


def run(words, environment):
    """Runs a program to its end; its costs by function."""
    with tempfile.TemporaryDirectory(prefix="weft-count-") as folder:
        out = Path(folder, "costs")
        done = subprocess.run([str(word) for word in command(out) + words], env=environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise NotCounted(f"`{' '.join(map(str, words))}` failed: {done.stdout.strip()[:600]}")
        return costs(out.read_text())
