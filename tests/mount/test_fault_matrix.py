"""The fault matrix: what programs see of everything that can go wrong with the API.

The plays mostly wait, each on a mount of its own, so many go on at one time.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.mount.support.ailments import AILMENTS, Ailment
from tests.mount.support.fault_matrix import REFUSED, RIGHT, WITH_A_WARNING, Outcomes, Step, play

_AT_ONE_TIME = 12


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Outcomes]]]:
    """What comes of all ailments, by their names."""
    folders = {ailment.name: tmp_path_factory.mktemp("ailment") for ailment in AILMENTS}
    with ThreadPoolExecutor(_AT_ONE_TIME) as threads:
        yield {each.name: threads.submit(play, each, folders[each.name]) for each in AILMENTS}


def expected(ailment: Ailment) -> Outcomes:
    list_before = ailment.listing if ailment.hides_lists else RIGHT
    of_downloads = {
        Step.OPEN: ailment.opening,
        Step.STAT: RIGHT,
        Step.STORED: RIGHT,
        Step.OPEN_ONCE: RIGHT if ailment.mends else ailment.opening,
        Step.AFTERWARDS: RIGHT,
        Step.STORE: RIGHT,
    }
    if not ailment.befalls_all_calls:
        of_downloads[Step.OPEN_BESIDE] = RIGHT
    if not ailment.befalls_lists:
        return of_downloads
    of_new_tenant = (
        {Step.MOUNT: REFUSED}
        if ailment.keeps_unmounted
        else {Step.MOUNT: WITH_A_WARNING, Step.NEW_ROOT: ailment.listing}
    )
    of_lists = {
        Step.ROOT: list_before,
        Step.NEW_LIST: ailment.listing,
        Step.LIST: list_before,
        Step.ARCHIVE: RIGHT,
        Step.ROOT_ONCE: RIGHT if ailment.mends else list_before,
        Step.LIST_ONCE: RIGHT if ailment.mends else ailment.listing,
    }
    if not ailment.befalls_all_calls:
        of_lists[Step.LIST_BESIDE] = RIGHT
    return {**of_downloads, **of_new_tenant, **of_lists}


CELLS = [
    pytest.param(ailment, step, id=f"{ailment.name}: {step.value}")
    for ailment in AILMENTS
    for step in Step
    if step in expected(ailment)
]


@pytest.mark.promise(
    "What goes wrong with the API, with any kind of call, costs an error that says so, within "
    "`--timeout`, or nothing at all, and never a wrong byte or a file of an archive."
)
@pytest.mark.promise(
    "A failure is over when the API is well again: nothing bad is kept, and nobody has to mount "
    "again."
)
@pytest.mark.parametrize(("ailment", "step"), CELLS)
def test_programs_see_what_the_table_says(
    plays: Mapping[str, Future[Outcomes]], ailment: Ailment, step: Step
) -> None:
    assert plays[ailment.name].result()[step] == expected(ailment)[step]


@pytest.mark.parametrize("ailment", AILMENTS, ids=lambda ailment: ailment.name)
def test_nothing_else_happens(plays: Mapping[str, Future[Outcomes]], ailment: Ailment) -> None:
    assert set(plays[ailment.name].result()) == set(expected(ailment))
