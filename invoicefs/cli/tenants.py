"""The tenant of a command: its URL, its credential, and the settings in its profile."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from invoicefs.cli.options import source_of_options
from invoicefs.cli.parameter_types import FOLDER, PATH
from invoicefs.credentials.profiles import (
    ARCHIVE_VARIABLE,
    INSECURE_HTTP_VARIABLE,
    MOUNT_POINT_VARIABLE,
    Profile,
)
from invoicefs.credentials.sources import OUR_VARIABLES, Choice, choose
from invoicefs.errors import UsageError

_OTHER_VARIABLES = {MOUNT_POINT_VARIABLE, ARCHIVE_VARIABLE, INSECURE_HTTP_VARIABLE}
# A profile says what is mounted; how the process runs depends on who starts it.
_NO_SETTINGS = {"INVOICEFS_FOREGROUND", "INVOICEFS_PROFILE"}


class Tenant(NamedTuple):
    """A tenant, and the values of all options by their fields, with those from its profile."""

    choice: Choice
    options: Mapping[str, Any]


def choose_tenant(ctx: click.Context) -> Tenant:
    """Choose the tenant of a command with the options of `mount_options`, and --insecure-http.

    Options that neither the command line nor the environment gives are taken from the profile in
    use. Raises `UsageError` if there is no URL or an invalid value, and `UserError` if a file is
    needed and cannot be used.
    """
    choice = choose(
        source_of_options(ctx),
        ctx.obj.secrets,
        profile_name=ctx.params["profile"],
        may_be_unencrypted=ctx.params["is_insecure"],
    )
    settings = dict(_settings_in(choice.profile, ctx)) if choice.profile else {}
    return Tenant(choice, {**ctx.params, **settings})


def ignored_variables(profile: Profile, mount: click.Command) -> tuple[str, ...]:
    """Return a sentence for each variable in a profile that means nothing, such as a misspelt one.

    `mount` is the command with all options that a profile can set.
    """
    known = {*OUR_VARIABLES.values(), *_OTHER_VARIABLES, *_variables(mount)}
    return tuple(
        f"{name} in {profile.file} is ignored, because profiles have no such setting: "
        "check the spelling."
        for name in sorted(profile.variables.keys() - known)
    )


def _variables(command: click.Command) -> Mapping[str, click.Parameter]:
    """Return the parameters of a command that a profile can set, by their variables."""
    return {
        param.envvar: param
        for param in command.params
        if isinstance(param.envvar, str) and param.envvar not in _NO_SETTINGS
    }


def _settings_in(profile: Profile, ctx: click.Context) -> Iterator[tuple[str, object]]:
    for variable, param in _variables(ctx.command).items():
        text = profile.variables.get(variable)
        if text is None or variable in OUR_VARIABLES.values():  # `sources` reads these
            continue
        assert param.name is not None
        if ctx.get_parameter_source(param.name) is ParameterSource.DEFAULT:
            if param.type in (FOLDER, PATH):
                text = str(profile.path(variable))
            yield param.name, _converted(text, param, ctx, f"{variable} in {profile.file}")


def _converted(text: str, param: click.Parameter, ctx: click.Context, origin: str) -> object:
    """Return the value of a parameter that click would convert from a variable with this text."""
    is_repeatable = isinstance(param, click.Option) and param.multiple
    try:
        return param.type_cast_value(
            ctx, param.type.split_envvar_value(text) if is_repeatable else text
        )
    except click.BadParameter as error:
        raise UsageError(f"{origin}: {error.message}") from None
