"""``-o`` lists and helper arguments of mount(8) become arguments of the command, or an error."""

import shlex
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.cli.fstab import HelperCall, arguments_of, parse_helper_call
from invoicefs.errors import UsageError
from tests.support.cli_stage import GENERIC_OPTIONS, TENANT

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TAKES_VALUE = {
    "list_ttl": True,
    "namespace": True,
    "log_file": True,
    "allow_other": False,
    "verbose": False,
}
PLAIN = HelperCall(TENANT, "/mnt", (), is_fake=False)

flags = st.sampled_from(sorted(key for key, takes in TAKES_VALUE.items() if not takes))
keys = st.sampled_from(sorted(key for key, takes in TAKES_VALUE.items() if takes))
# A quoted value cannot contain a quotation mark.
values = st.text(st.characters(exclude_characters='"'), min_size=1)
list_like = st.lists(
    st.one_of(
        st.text(),
        keys,
        flags,
        st.sampled_from([",", "=", '"', " ", "", *GENERIC_OPTIONS, "no", "x-", "-", "--", "\0"]),
    )
).map("".join)


def arguments(text: str, *, is_sloppy: bool = False) -> list[str]:
    return list(arguments_of(text, TAKES_VALUE, is_sloppy=is_sloppy))


def arguments_or_refusal(text: str, *, is_sloppy: bool) -> tuple[list[str], str]:
    try:
        return arguments(text, is_sloppy=is_sloppy), ""
    except UsageError as error:
        return [], str(error)


def refusal_of(text: str, *, is_sloppy: bool = False) -> str:
    _, refusal = arguments_or_refusal(text, is_sloppy=is_sloppy)
    assert refusal
    return refusal


def dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def parse(words: Iterable[str]) -> HelperCall:
    return parse_helper_call(list(words), TAKES_VALUE)


# Lists


@pytest.mark.parametrize(
    "value",
    [
        " a ",
        "a==b=",
        "\udcff",
        "-5",
        "a_b-c",
        "'a'",
    ],
)
def test_a_value_is_kept_verbatim(value: str) -> None:
    assert arguments(f"log_file={value},verbose") == [f"--log-file={value}", "--verbose"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('log_file=",",log_file=",,"', ["--log-file=,", "--log-file=,,"]),
        ('x-mine="a,b",verbose', ["--verbose"]),
        ('comment="no_such,option",verbose', ["--verbose"]),
    ],
)
def test_commas_in_quotes_belong_to_the_value_but_quotes_do_not(
    text: str, expected: list[str]
) -> None:
    assert arguments(text) == expected


@pytest.mark.parametrize(
    "text", ["", ",", ",,,", "verbose,", ",verbose", "verbose,,allow_other", "verbose, "]
)
def test_empty_items_are_ignored(text: str) -> None:
    assert arguments(text) == [dashed(name) for name in text.split(",") if name.strip()]


@pytest.mark.parametrize("option", GENERIC_OPTIONS)
def test_generic_mount_options_are_accepted_and_ignored(option: str) -> None:
    assert arguments(option) == []
    assert arguments(f"verbose,{option},list_ttl=5m") == ["--verbose", "--list-ttl=5m"]


@pytest.mark.parametrize(
    "name",
    ["no_such_option", "token", "password", "p12_password", "help", "h", "o", "RO", "roo", "nono"],
)
@pytest.mark.parametrize("form", ["{}", "{}=hush", "verbose,{}=hush,allow_other"])
def test_an_unknown_option_is_an_error_with_its_name_but_not_its_value(
    name: str, form: str
) -> None:
    refusal = refusal_of(form.format(name))

    assert repr(name) in refusal
    assert "hush" not in refusal


@pytest.mark.parametrize("is_sloppy", [False, True])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("list_ttl", "list_ttl"),
        ("log_file=", "log_file"),
        ('log_file=""', "log_file"),
        ("verbose,log_file,allow_other", "log_file"),
        ("allow_other=1", "allow_other"),
        ("verbose=", "verbose"),
        ("list_ttl=5m,verbose=yes", "verbose"),
    ],
)
def test_a_missing_or_unexpected_value_is_an_error_naming_the_option(
    text: str, name: str, is_sloppy: bool
) -> None:
    assert name in refusal_of(text, is_sloppy=is_sloppy)


def test_a_sloppy_mount_ignores_unknown_options_and_no_others() -> None:
    text = 'no_such_option,list_ttl=5m,other="a,b",verbose'

    assert arguments(text, is_sloppy=True) == ["--list-ttl=5m", "--verbose"]


@pytest.mark.parametrize("is_sloppy", [False, True])
@unhurried
@given(text=list_like)
@example(text='log_file="')
@example(text='"')
@example(text="=")
@example(text="verbose, list_ttl=1")
@example(text="\udcff")
def test_any_list_gives_arguments_or_a_usage_error_of_one_line(text: str, is_sloppy: bool) -> None:
    made, refusal = arguments_or_refusal(text, is_sloppy=is_sloppy)

    assert refusal.isprintable()
    assert {argument.partition("=")[0] for argument in made} <= set(map(dashed, TAKES_VALUE))


@unhurried
@given(
    st.lists(
        st.one_of(flags.map(lambda key: (key, None)), st.tuples(keys, values), st.just(("", None)))
    )
)
def test_a_list_is_parsed_back_as_it_was_written(options: list[tuple[str, str | None]]) -> None:
    text = ",".join(name if value is None else f'{name}="{value}"' for name, value in options)

    assert arguments(text) == [
        dashed(name) if value is None else f"{dashed(name)}={value}"
        for name, value in options
        if name
    ]


# Helper arguments


@pytest.mark.parametrize(
    "words", [f"{TENANT} /mnt -o list_ttl=5m", f"{TENANT} /mnt -olist_ttl=5m -t invoicefs"]
)
def test_helper_arguments_give_source_mount_point_and_options(words: str) -> None:
    assert parse(words.split()) == PLAIN._replace(arguments=("--list-ttl=5m",))


CHUNKS = (TENANT, "/mnt", "-sn", "-f", "-v", "-o no_such,list_ttl=5m", "-overbose", "-t invoicefs")


@unhurried
@given(st.permutations(CHUNKS).filter(lambda words: words.index(TENANT) < words.index("/mnt")))
def test_helper_arguments_can_be_in_any_order(chunks: list[str]) -> None:
    call = parse(" ".join(chunks).split())

    assert call[:2] == (TENANT, "/mnt")
    assert call.is_fake
    assert sorted(call.arguments) == sorted(parse(" ".join(CHUNKS).split()).arguments)


def test_o_lists_are_joined_in_order() -> None:
    words = ["-o", "namespace=a", TENANT, "-onamespace=b,verbose", "/mnt", "-o", "namespace=c"]

    assert parse(words).arguments == (
        "--namespace=a",
        "--namespace=b",
        "--verbose",
        "--namespace=c",
    )


@pytest.mark.parametrize("words", ["-n", "-r", "-w", "-nrw", "-t invoicefs", "-tfuse", "-o ''"])
def test_flags_without_meaning_are_ignored(words: str) -> None:
    assert parse([TENANT, *shlex.split(words), "/mnt"]) == PLAIN


@pytest.mark.parametrize("words", ["-s -o other", "-ns -o other", "-o other -s", "-oother -sn"])
def test_the_sloppy_flag_ignores_unknown_options(words: str) -> None:
    assert parse([*words.split(), TENANT, "/mnt"]) == PLAIN


@pytest.mark.parametrize("words", ["-f", "-nf", "-fr"])
def test_the_fake_flag_is_recognised(words: str) -> None:
    assert parse([words, TENANT, "/mnt"]) == PLAIN._replace(is_fake=True)


@pytest.mark.parametrize("words", ["", TENANT, f"{TENANT} /mnt /other", "-o verbose", "-n /mnt -v"])
def test_exactly_a_url_and_a_mount_point_are_required(words: str) -> None:
    with pytest.raises(UsageError, match="URL and a mount point"):
        parse(words.split())


@pytest.mark.parametrize("flag", ["-x", "-sx", "-h", "--", "--help", "--verbose", "--list-ttl=5m"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_unknown_flag_is_an_error_that_names_it(flag: str, position: int) -> None:
    words = [TENANT, "/mnt"]
    words.insert(position, flag)

    with pytest.raises(UsageError, match=f"{flag.partition(chr(61))[0]}[: ]"):
        parse(words)


@pytest.mark.parametrize("flag", ["-o", "-t"])
def test_a_flag_without_its_value_is_an_error_that_names_it(flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        parse([TENANT, "/mnt", flag])


@unhurried
@given(
    st.lists(
        st.one_of(
            list_like,
            st.sampled_from([TENANT, "/mnt", "-o", "-t", "-s", "-f", "-v", "-"]),
            list_like.map("-o{}".format),
            st.text("sfnvrwx").map("-{}".format),
        ),
        max_size=6,
    )
)
def test_any_arguments_are_parsed_or_a_usage_error(words: list[str]) -> None:
    try:
        call = parse(words)
    except UsageError:
        return
    assert {call.source, call.mount_point} <= set(words)
    assert all(argument.startswith("-") for argument in call.arguments)
