# Sourced by the other scripts: installs everything that they need.
#
#   prepare GROUP PROGRAM...
#
# installs the system packages of libfuse 2, fusermount and the named programs (and libraries,
# lib*.so), creates .venv, and installs the project into it: with all extras and the dependency
# group GROUP, or with the extra demo only if GROUP is demo. It skips what is already installed, so
# a second run installs nothing. Afterwards .venv/bin is first on PATH.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prepare() {
    local group=$1
    shift
    install_system_packages "$(missing_packages "$@")"
    install_project "$group"
    export PATH="$PWD/.venv/bin:$PATH"
}

# Installs each of the programs, if that is possible, after `prepare`.
try_programs() {
    local program
    for program in "$@"; do
        is_there "$program" && continue
        (install_system_packages "$(missing_packages "$program")") || left_out "$program"
    done
}

# Installs each of the Python packages, if that is possible, after `prepare`.
try_python_packages() {
    local package pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check)
    for package in "$@"; do
        [[ -e .venv/installed-$package ]] && continue
        if (quietly "${pip[@]}" install "$package"); then
            touch ".venv/installed-$package"
        else
            left_out "$package"
        fi
    done
}

left_out() {
    echo "$1 could not be installed, so it is left out." >&2
}

# Prints the Debian packages of missing programs, one per line.
missing_packages() {
    local program
    if ! ldconfig_has libfuse.so.2; then
        # Named libfuse2t64 since the transition to 64-bit times (Debian 13, Ubuntu 24.04).
        echo "libfuse2t64|libfuse2"
    fi
    command -v fusermount >/dev/null || echo fuse3
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    for program in "$@"; do
        is_there "$program" && continue
        case $program in
            apache2) echo apache2-bin ;;
            borg) echo borgbackup ;;
            at-spi-bus-launcher) echo at-spi2-core ;;
            dbus-daemon) echo "dbus-daemon|dbus" ;;
            ganesha.nfsd) echo nfs-ganesha-vfs ;;
            getfattr) echo attr ;;
            gio) echo libglib2.0-bin ;;
            gi.repository.Atspi)
                echo gir1.2-atspi-2.0
                echo python3-gi
                ;;
            gvfsd) echo gvfs ;;
            import) echo imagemagick ;;
            libnss_wrapper.so) echo libnss-wrapper ;;
            man) echo man-db ;;
            mksquashfs) echo squashfs-tools ;;
            mutool) echo mupdf-tools ;;
            nfs-ls) echo libnfs-utils ;;
            nginx) echo nginx-light ;;
            ngx_http_js_module.so) echo libnginx-mod-http-js ;;
            pdftotext) echo poppler-utils ;;
            smbd) echo samba ;;
            soffice) echo libreoffice-calc ;;
            systemd-nspawn) echo systemd-container ;;
            tumblerd) echo tumbler ;;
            Xvfb) echo xvfb ;;
            *) echo "$program" ;;
        esac
    done
}

is_there() {
    case $1 in
        # ldconfig lists only libraries with a version.
        lib*.so) python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null ;;
        # A module of the system's Python.
        gi.repository.*) /usr/bin/python3 -c "
import gi
gi.require_version('${1##*.}', '2.0')
import $1" 2>/dev/null ;;
        # A module of nginx, which is not on PATH for an ordinary user.
        ngx_*.so) [[ -e /usr/lib/nginx/modules/$1 ]] ;;
        nginx) [[ -x /usr/sbin/nginx ]] ;;
        # The message bus starts these, from folders that are not on PATH.
        at-spi-bus-launcher | gvfsd) compgen -G "/usr/lib*/$1" >/dev/null ;;
        dbus-user-session) [[ -e /usr/lib/systemd/user/dbus.socket ]] ;;
        systemd-sysv) [[ -e /sbin/init ]] ;;
        tumblerd) compgen -G "/usr/lib/*/tumbler-1/tumblerd" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

ldconfig_has() {
    local listed
    listed=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    [[ $listed == *"$1"* ]]
}

#   install_system_packages "PACKAGE..." [OPTION OF apt-get]...
install_system_packages() {
    local wanted=$1 packages as_root=()
    shift
    [[ -n $wanted ]] || return 0
    command -v apt-get >/dev/null || please "Install these packages, then run this again:" $wanted
    [[ $(id -u) == 0 ]] || as_root=(sudo -n)
    if ! "${as_root[@]}" true 2>/dev/null; then
        please "Run this first, then try again:" sudo apt install $(known_here $wanted)
    fi
    quietly "${as_root[@]}" apt-get update -q
    packages=$(known_here $wanted)
    echo "Installing:" $packages
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "$@" $packages
}

# Prints, for each A|B|..., the first package that this system has, or else the last one.
known_here() {
    local choice name
    for choice in "$@"; do
        for name in ${choice//|/ }; do
            apt-cache show "$name" >/dev/null 2>&1 && break
            # Without package lists, the installed packages show whether the system uses t64 names.
            [[ $name == *t64 ]] && compgen -G "/var/lib/dpkg/info/*t64*" >/dev/null && break
        done
        echo "$name"
    done
}

# Runs a command, and shows its output only if it fails.
quietly() {
    local output
    output=$("$@" 2>&1) && return 0
    echo "$output" >&2
    echo "This failed: $*" >&2
    exit 1
}

please() {
    echo "$1" >&2
    echo "    ${*:2}" >&2
    exit 1
}

# Creates a virtual environment unless there is a usable one; its creation may have been interrupted.
make_environment() {
    "$1/bin/python" -m pip --version &>/dev/null || python3 -m venv --clear "$1"
}

# The stamp file names what is installed: after a change of pyproject.toml, or for another
# group, the project is installed again.
install_project() {
    local group=$1 requirements sufficient=("$1") one pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check)
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Python 3.11 or newer is needed; this is $(python3 --version)." >&2
        exit 1
    }
    requirements=$(sha256sum pyproject.toml | cut -c1-16)
    # Every other group includes dev, and all are installed with the extra demo.
    case $group in demo | dev) sufficient+=(dev bench packages serving) ;; esac
    for one in "${sufficient[@]}"; do
        [[ ! -e .venv/installed-$one-$requirements ]] || return 0
    done
    echo "Installing invoicefs and its group $group into .venv"
    make_environment .venv
    # Another stamp would be believed if pyproject.toml became again what it was.
    find .venv -maxdepth 1 -name "installed-*" ! -name "*-$requirements" -delete
    if [[ $group == demo ]]; then
        quietly "${pip[@]}" install --editable ".[demo]"
    else
        quietly "${pip[@]}" install "pip>=25.1" # the first that knows dependency groups
        quietly "${pip[@]}" install --editable ".[all]" --group "$group"
    fi
    touch ".venv/installed-$group-$requirements"
}
