"""The fault matrix: what programs see of everything that can go wrong with the API.

The plays mostly wait, each on a mount of its own, so many go on at one time.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.mount.support.ailments import API_FAILURES, Failure
from tests.mount.support.fault_matrix import REFUSED, RIGHT, WITH_A_WARNING, Outcomes, Step, play

_AT_ONE_TIME = 12


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Outcomes]]]:
    """What comes of all ailments, by their names."""
    folders = {failure.name: tmp_path_factory.mktemp("failure") for failure in API_FAILURES}
    with ThreadPoolExecutor(_AT_ONE_TIME) as threads:
        yield {each.name: threads.submit(play, each, folders[each.name]) for each in API_FAILURES}


def expected(failure: Failure) -> Outcomes:
    list_before = failure.listing if failure.hides_lists else RIGHT
    of_downloads = {
        Step.OPEN: failure.opening,
        Step.STAT: RIGHT,
        Step.STORED: RIGHT,
        Step.OPEN_ONCE: RIGHT if failure.recovers else failure.opening,
        Step.AFTERWARDS: RIGHT,
        Step.STORE: RIGHT,
    }
    if not failure.affects_all_requests:
        of_downloads[Step.OPEN_MEANWHILE] = RIGHT
    if not failure.affects_lists:
        return of_downloads
    of_new_tenant = (
        {Step.MOUNT: REFUSED}
        if failure.blocks_mounting
        else {Step.MOUNT: WITH_A_WARNING, Step.NEW_ROOT: failure.listing}
    )
    of_lists = {
        Step.ROOT: list_before,
        Step.NEW_LIST: failure.listing,
        Step.LIST: list_before,
        Step.ARCHIVE: RIGHT,
        Step.ROOT_ONCE: RIGHT if failure.recovers else list_before,
        Step.LIST_ONCE: RIGHT if failure.recovers else failure.listing,
    }
    if not failure.affects_all_requests:
        of_lists[Step.OPEN_WHILE_LISTS_FAIL] = RIGHT
    return {**of_downloads, **of_new_tenant, **of_lists}


CELLS = [
    pytest.param(failure, step, id=f"{failure.name}: {step.value}")
    for failure in API_FAILURES
    for step in Step
    if step in expected(failure)
]


@pytest.mark.promise(
    "A failure of the API, with any kind of request, costs nothing, or an error that says so "
    "within `--timeout`, and never a wrong byte or a file of an archive."
)
@pytest.mark.promise(
    "A failure ends when the API has recovered: nothing bad is cached, and no remount is needed."
)
@pytest.mark.parametrize(("failure", "step"), CELLS)
def test_programs_see_what_the_table_says(
    plays: Mapping[str, Future[Outcomes]], failure: Failure, step: Step
) -> None:
    assert plays[failure.name].result()[step] == expected(failure)[step]


@pytest.mark.parametrize("failure", API_FAILURES, ids=lambda failure: failure.name)
def test_nothing_else_happens(plays: Mapping[str, Future[Outcomes]], failure: Failure) -> None:
    assert set(plays[failure.name].result()) == set(expected(failure))
