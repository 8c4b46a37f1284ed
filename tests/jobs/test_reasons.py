"""Reasons as few lines: what differs in numbers and dates alone is one, whatever the number of nights."""

from __future__ import annotations

import datetime

from jobs.reasons import MOST_LINES, Reason, in_words, merged, skeleton, told_once

FIRST = datetime.date(2026, 1, 5)
NIGHTS = [FIRST + datetime.timedelta(n) for n in range(60)]


def test_sixty_nights_of_one_reason_are_one_line() -> None:
    few = "client acme: {} buyers among {:,} eligible users, and lookalike.min_positives is 100"
    said = told_once(
        Reason("train_lookalike", night, "train_lookalike", few.format(12 + n % 7, 900 + 5 * n))
        for n, night in enumerate(NIGHTS))
    assert said == [
        "train_lookalike on 60 nights from 2026-01-05 to 2026-03-05: client acme: 12 to 18 buyers among 900 to 1,195 "
        "eligible users, and lookalike.min_positives is 100"]


def test_other_words_are_another_reason() -> None:
    texts = ["client acme: 3 buyers", "client brim: 3 buyers", "client acme: 4 buyers", "no vectors"]
    said = told_once(Reason("t", FIRST, "t", text) for text in texts)
    assert [line.removeprefix("t on 2026-01-05: ") for line in said] == [
        "client acme: 3 to 4 buyers", "client brim: 3 buyers", "no vectors"]


def test_a_name_with_digits_is_no_number() -> None:
    assert skeleton("client acme2 has 3") != skeleton("client acme3 has 3")
    assert skeleton("space '2026-01-05-ab12'") != skeleton("space '2026-01-05-ab13'")
    assert skeleton("0.5 %, 1,000 of 20. End") == skeleton("12 %, 7 of 1,234,567. End")


def test_dates_are_those_of_the_first_night_and_it_is_said() -> None:
    texts = [f"nothing of {night - datetime.timedelta(7)}: run it" for night in NIGHTS[:2]]
    assert merged(texts) == "nothing of 2025-12-29: run it (other nights: other dates)"
    assert merged(texts[:1]) == "nothing of 2025-12-29: run it"


def test_a_stage_with_many_reasons_says_how_many_more_there_are() -> None:
    many = [Reason("t", FIRST, "t", f"client {chr(97 + n)}: none") for n in range(MOST_LINES + 5)]
    said = told_once([*many, Reason("u", FIRST, "u was skipped", "no input")])
    assert len(said) == MOST_LINES + 2
    assert said[-2:] == ["t: 5 more, which stand in run_metrics/stage=t", "u was skipped on 2026-01-05: no input"]


def test_nights_in_words() -> None:
    assert in_words(NIGHTS[:1]) == "2026-01-05"
    assert in_words(NIGHTS[:2]) == "2026-01-05 and 2026-01-06"
    assert in_words(NIGHTS[:3]) == "2026-01-05, 2026-01-06 and 2026-01-07"
    assert in_words(NIGHTS[:4]) == "4 nights from 2026-01-05 to 2026-01-08"
    assert in_words(NIGHTS[::7][:5]) == "5 nights from 2026-01-05 to 2026-02-02 (7 days apart)"
    assert in_words([*NIGHTS[:5], NIGHTS[7], *NIGHTS[20:24]]) == (
        "5 nights from 2026-01-05 to 2026-01-09, 2026-01-12 and 4 nights from 2026-01-25 to 2026-01-28"
    ), "no night is named that it was not"
