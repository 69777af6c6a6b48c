# Sourced by scripts/test: runs the unit, HTTP and mount tests with the oldest versions of the
# libraries that pyproject.toml allows, which are those of Debian 12.
#
#   test_with_lower_bounds [ARGUMENTS OF pytest]
#
# The environment, .venv-lowest, is kept between runs. Arguments replace the three folders.

lowest=$PWD/.venv-lowest

test_with_lower_bounds() {
    prepare_tiers
    install_lower_bounds
    export PATH="$lowest/bin:$PATH"
    [[ $(command -v invoicefs) == "$lowest/bin/invoicefs" ]] || please "This is missing:" invoicefs
    if [[ $# -gt 0 ]]; then
        exec pytest "$@"
    fi
    run_tiers
}

# As in `install_project`, a stamp file names what is installed.
install_lower_bounds() {
    local stamp pip=("$lowest/bin/python" -m pip --quiet --disable-pip-version-check) bounds
    bounds=$(lower_bounds)
    stamp=$lowest/installed-$(sha256sum pyproject.toml | cut -c1-16)
    if [[ ! -e $stamp ]]; then
        echo "Installing invoicefs with the oldest versions that it allows into $lowest"
        make_environment "$lowest"
        rm -f "$lowest"/installed-*
        quietly "${pip[@]}" install "pip>=25.1" # the first that knows dependency groups
        quietly "${pip[@]}" install --editable ".[all]" --group dev $bounds
    fi
    echo "Testing with" $bounds
    check_installed $bounds
    touch "$stamp"
}

# Prints NAME==VERSION for each dependency and those of the extras, except the demo, which needs a
# library that Debian 12 does not have.
lower_bounds() {
    python3 - <<'END'
import re
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
requirements = list(project["dependencies"])
for extra in ("p12", "socks", "vesconfig"):
    requirements += project["optional-dependencies"][extra]
for requirement in requirements:
    name, version = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()
    print(f"{name}=={version}")
END
}

# Fails unless exactly these versions are installed.
check_installed() {
    "$lowest/bin/python" - "$@" <<'END'
import sys
from importlib.metadata import version

for pin in sys.argv[1:]:
    name, bound = pin.split("==")
    if version(name) != bound:
        sys.exit(f"{sys.prefix} has {name} {version(name)} instead of {bound}: remove this folder.")
END
}
