"""The order of numbered files."""

from __future__ import annotations

import itertools

from recon4d.formats.natural import natural_key


def test_natural_order():
    names = ["frame10.png", "frame2.png", "Frame1.png", "a.png"]
    assert sorted(names, key=natural_key) == ["a.png", "Frame1.png", "frame2.png", "frame10.png"]


def test_a_bare_name_comes_before_the_same_name_with_a_number():
    assert sorted(["frame1", "frame0", "frame"], key=natural_key) == ["frame", "frame0", "frame1"]


def test_names_equal_but_for_case_and_zeros_do_not_depend_on_the_order_of_the_folder():
    names = ["a01", "A1", "a1", "A01"]
    orders = {tuple(sorted(shuffled, key=natural_key)) for shuffled in itertools.permutations(names)}
    assert orders == {("A01", "A1", "a01", "a1")}


def test_a_superscript_after_a_number_is_text_and_no_number():
    assert sorted(["m10²", "m2²"], key=natural_key) == ["m2²", "m10²"]
