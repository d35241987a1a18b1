"""Days are one day in whatever way they are written, and what may be two days is none."""

from __future__ import annotations

import pytest

from lmstack.rag.dates import days_meant, iso_dates, short_days, slashed_days, words_of_date


@pytest.mark.parametrize(
    "written",
    [
        "14 May 2019",
        "14th of May, 2019",
        "14. May 2019",
        "May 14, 2019",
        "may 14th 2019",
        "14.05.2019",
        "14.5.2019",
        "14/05/2019",
        "05/14/2019",
        "2019/5/14",
        "2019-05-14",
    ],
)
def test_a_day_is_written_in_one_way(written):
    assert iso_dates(f"on {written}.") == "on 2019-05-14."


@pytest.mark.parametrize(
    "text", ["5/6/2019", "31.13.2019", "version 4.1.12.2019", "13/2019", "2019-00-10", "14 Mayor"]
)
def test_what_is_no_day_or_may_be_two_stays_as_it_is(text):
    assert iso_dates(text) == text


def test_the_words_of_a_day_are_looked_for_in_each_way_to_write_it():
    """The first of a month is not every text with a 1, the month and the year."""
    ways = words_of_date("2017-12-01")
    assert ways[0] == ("2017-12-01",)
    assert {("1.12.2017",), ("1", "December", "2017"), ("01", "Dec", "2017")} < set(ways)
    # "12/1/2017" may be another day.
    assert ("2017", "12", "1") not in ways
    assert ("2017", "5", "14") in words_of_date("2017-05-14")
    assert words_of_date("2019-13-04") == words_of_date("AX-12") == []


@pytest.mark.parametrize("written", ["May 2019", "may 2019", "May, 2019", "05/2019", "5/2019"])
def test_a_month_is_written_in_one_way(written):
    assert iso_dates(f"for {written}.") == "for 2019-05."
    assert ("05", "2019") in words_of_date("2019-05")


def test_two_digits_of_a_year_may_mean_either_century_and_no_other_day():
    assert days_meant("26.4.21") == ["2021-04-26", "1921-04-26"]
    assert days_meant("26.14.21") == days_meant("4.1") == []
    assert short_days("2021-04-26") == ["26.04.21", "26.4.21"]
    assert short_days("2021-04") == []
    assert ("26.4.21",) in words_of_date("2021-04-26")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("from 08/07/2024 to 23/07/2024", "from 2024-07-08 to 2024-07-23"),
        ("from 08/07/2024 to 08/23/2024", "from 2024-08-07 to 2024-08-23"),
        ("08/07/2024, 13/01/2020, 01/13/2020", "08/07/2024, 2020-01-13, 2020-01-13"),
    ],
)
def test_what_a_day_with_slashes_is_follows_from_the_other_days(text, read):
    assert iso_dates(text) == read


def test_the_ways_to_write_a_day_with_slashes_are_those_that_leave_its_month_open():
    assert slashed_days("2024-07-08") == ["08/07/2024", "07/08/2024", "8/7/2024", "7/8/2024"]
    assert slashed_days("2024-07-23") == slashed_days("2024-07") == []
