"""The fault matrix: what programs see of every way in which the API can fail.

The scenarios mostly wait, each on its own mount, so many of them run concurrently. All of their
tests run in one worker; otherwise each worker would run every scenario.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.mount.support.failures import API_FAILURES, Failure
from tests.mount.support.fault_matrix import (
    REFUSED,
    RIGHT,
    WITH_A_WARNING,
    Outcomes,
    Step,
    outcomes_of,
)

_CONCURRENT = 12

pytestmark = pytest.mark.xdist_group("fault matrix")


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Outcomes]]]:
    """The outcomes of all failures, by their names."""
    folders = {failure.name: tmp_path_factory.mktemp("failure") for failure in API_FAILURES}
    with ThreadPoolExecutor(_CONCURRENT) as threads:
        yield {
            item.name: threads.submit(outcomes_of, item, folders[item.name])
            for item in API_FAILURES
        }


def expected(failure: Failure) -> Outcomes:
    list_before = failure.listing if failure.hides_lists else RIGHT
    of_downloads = {
        Step.OPEN: failure.opening,
        Step.STAT: RIGHT,
        Step.CACHED: RIGHT,
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
    "A failure of the API, in any kind of request, goes unnoticed or is reported as an error "
    "within `--timeout`, and never causes a wrong byte or a deleted file in an archive."
)
@pytest.mark.promise(
    "A failure ends when the API has recovered: nothing bad is cached, and no remount is needed."
)
@pytest.mark.parametrize(("failure", "step"), CELLS)
def test_programs_see_the_outcomes_of_the_table(
    scenarios: Mapping[str, Future[Outcomes]], failure: Failure, step: Step
) -> None:
    assert scenarios[failure.name].result()[step] == expected(failure)[step]


@pytest.mark.parametrize("failure", API_FAILURES, ids=lambda failure: failure.name)
def test_a_scenario_has_only_the_expected_steps(
    scenarios: Mapping[str, Future[Outcomes]], failure: Failure
) -> None:
    assert set(scenarios[failure.name].result()) == set(expected(failure))
