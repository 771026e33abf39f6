"""Holds the manifests to what others publish: run by the gate, with the `weft` binary as its argument.

1. Every manifest and example fits the published schemas of its kind (kubernetes-validate, strict).
2. `kubectl kustomize deploy/k8s/base` gives what `weft install` prints, and `weft uninstall` names the same.
3. The definitions' schemas and CEL rules say of control-plane/src/model/crd/samples.yaml what the parser says.

It changes nothing and reaches no cluster. The exit code is 1 when something does not hold.
"""

import pathlib
import subprocess
import sys

import cel
import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy/k8s/base"
# The newest that kubernetes-validate has, and the oldest that Weft runs on.
VERSIONS = ("1.37", "1.29")
# CEL rules, compiled.
PROGRAMS = {}


class Strings(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a time is a text."""


Strings.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(text):
    return [document for document in yaml.load_all(text, Strings) if document]


def key(document):
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_schemas():
    files = sorted(BASE.rglob("*.yaml")) + sorted((ROOT / "examples/kubernetes").glob("*.yaml"))
    checked = 0
    for file in files:
        if file.name == "kustomization.yaml":
            continue
        for document in documents(file.read_text()):
            # Weft's own kinds are in no published schema.
            if document["apiVersion"].startswith("weft.dev/"):
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    yield f"{file.name}: {key(document)}: {version}: {error.message}"
            checked += 1
    print(f"{checked} objects fit the schemas of Kubernetes {' and '.join(VERSIONS)}")


def check_kustomize(weft):
    built = documents(output("kubectl", "kustomize", str(BASE)))
    installed = documents(output(weft, "install"))
    one, two = ({key(document): document for document in found} for found in (built, installed))
    for name in sorted(one.keys() | two.keys()):
        if one.get(name) != two.get(name):
            yield f"{name}: kustomize and `weft install` differ"
    named = {key(document) for document in documents(output(weft, "uninstall"))}
    made = {("Secret", "weft-system", "weft-control-plane-state")}
    if named != two.keys() | made:
        yield f"`weft uninstall` names other objects: {sorted(named ^ (two.keys() | made))}"
    print(f"{len(installed)} objects are the same by kustomize and by `weft install`")


def broken_rules(schema, value):
    """The messages of all CEL rules that a value breaks, as an API server would find them."""
    for rule in schema.get("x-kubernetes-validations", []):
        if not holds(rule["rule"], value):
            yield rule["message"]
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield from broken_rules(inner, value[name])
    if isinstance(value, list):
        for item in value:
            yield from broken_rules(schema.get("items", {}), item)


def holds(rule, value):
    if rule not in PROGRAMS:
        PROGRAMS[rule] = cel.compile(rule)
    verdict = PROGRAMS[rule].execute({"self": value})
    assert isinstance(verdict, bool), f"{rule} says {verdict!r} of {value!r}"
    return verdict


def check_definitions():
    schemas = {}
    for file in (BASE / "crds").glob("*.yaml"):
        (definition,) = documents(file.read_text())
        (version,) = definition["spec"]["versions"]
        schemas[definition["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    samples = yaml.safe_load((ROOT / "control-plane/src/model/crd/samples.yaml").read_text())
    for sample in samples:
        schema = schemas[sample["kind"]]
        usual = "mesh" if sample["kind"] == "MeshConfig" else "sample"
        value = {"metadata": {"name": sample.get("name", usual)}, "spec": sample["spec"]}
        validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())
        problems = [error.message for error in validator.iter_errors(value)]
        problems = problems or list(broken_rules(schema, value))
        if (not problems) != sample["right"]:
            yield f"{sample['kind']}: {sample['what']}: {problems or 'nothing is found wrong'}"
    print(f"{len(samples)} samples are judged by schema and CEL as by the parser")


def main(weft):
    problems = [*check_schemas(), *check_kustomize(weft), *check_definitions()]
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
