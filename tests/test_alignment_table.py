"""The table of `recon4d align`: its lines by hand, clips of every length, files of every age."""

import math
from dataclasses import replace

import pytest
from true_scene import Made

from recon4d import cli, pipeline
from recon4d.errors import InputError
from recon4d.view.alignment_table import FitLine, alignment_table, read_fits

NAN = math.nan


def row(number: int, **changes: object) -> FitLine:
    line = FitLine(f"{number:06d}", 0.5, 0.03, 200, 0.05, 40, 0.06, 0.2, False)
    return replace(line, **changes)


def test_short_clip_has_a_line_per_frame():
    text = alignment_table([row(0), row(3, gain=0.75, carried=True), row(6, held_out_median=0.2)])
    lines = text.splitlines()
    assert lines[0].split() == ["frame", "gain", "shift", "points", "error", "held-out", "95", "%", "below"]
    assert lines[2].split() == ["000000", "0.5", "0.03", "200", "5.0", "%", "6.0", "%", "20.0", "%"]
    assert lines[3].split()[-1] == "carried"
    assert lines[4].split()[-1] == "!"
    assert lines[6].split() == [
        "3",
        "frames",
        "0.5",
        "0.03",
        "200",
        "5.0",
        "%",
        "6.0",
        "%",
        "20.0",
        "%",
        "1",
        "carried",
    ]
    assert lines[7] == "! median error of 15 % or more"
    assert len({len(line) for line in lines[1:2] + lines[5:6]}) == 1


@pytest.mark.parametrize(
    ("frames", "lines", "last"),
    [(1, 1, "000000"), (25, 25, "000024"), (26, 3, "000020 - 000025"), (250, 25, "000240 - 000249"), (2000, 25, None)],
)
def test_long_clip_is_told_in_stretches(frames, lines, last):
    body = alignment_table([row(number) for number in range(frames)]).splitlines()[2:-2]
    assert len(body) == lines
    assert last is None or body[-1].startswith(f"{last} ")


def test_numbers_of_a_stretch_are_medians_weighted_by_points():
    rows = [row(k, gain=1.0 + k, residual_median=0.01, points=1) for k in range(9)]
    rows += [row(9, gain=10.0, residual_median=0.4, points=1000)]
    rows += [row(k) for k in range(10, 30)]
    words = alignment_table(rows).splitlines()[2].split()
    assert words[3] == "5.5"  # of 1 to 10
    assert words[6] == "40.0"  # nearly all points are of the tenth frame
    assert words[-1] == "!"


def test_what_is_not_known_has_no_column_or_a_dash():
    bare = {"shift": NAN, "held_out": 0, "held_out_median": NAN, "held_out_95": NAN}
    text = alignment_table([row(0, **bare), row(1, **bare, points=0, residual_median=0.3)])
    assert text.splitlines()[0].split() == ["frame", "gain", "points", "error"]
    assert text.splitlines()[3].split() == ["000001", "0.5", "0", "-"]
    assert "!" not in text  # an error without points is that of the clip
    zero = alignment_table([row(0, shift=0.0)])
    assert "shift" not in zero
    assert alignment_table([]) == "no frames"


def test_long_names_keep_the_end_that_tells_them_apart():
    text = alignment_table([row(0, name="holiday_in_the_mountains_0001")])
    assert text.splitlines()[2].split()[0] == "...ountains_0001"


def test_files_of_other_ages_are_read(tmp_path):
    path = tmp_path / "fits.csv"
    path.write_text("name,gain,shift,points,inliers,residual_median,carried\n000000,0.5,0.0,20,15,0.05,True\n")
    (old,) = read_fits(path)
    assert (old.points, old.held_out, old.carried) == (20, 0, True)
    assert math.isnan(old.held_out_median)
    path.write_text(
        "sky,name,gain,shift,points,inliers,residual_median,held_out,held_out_median,held_out_95,carried\n"
        "0.1,000000,0.5,0.03,200,15,0.05,40,0.06,0.2,False\n0.1,000001,0.5,,0,0,,0,,nan,False\n"
    )
    new, empty = read_fits(path)
    assert new == row(0)
    assert math.isnan(empty.residual_median)
    for text in ("name\n000000\n", "name,gain\n000000,much\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="is no readable table of fits"):
            read_fits(path)
    with pytest.raises(InputError, match="is no readable table of fits"):
        read_fits(tmp_path / "none.csv")


def test_verb_prints_the_table(tmp_path, monkeypatch, capsys):
    workspace = Made(tmp_path).workspace(tmp_path / "scene")
    (workspace.unit_dir("align") / "fits.csv").write_text("name,gain,points,residual_median\n000000,0.5,7,0.04\n")
    monkeypatch.setattr(pipeline, "run_one", lambda *_: None)
    assert cli.main(["align", str(workspace.root)]) == 0
    assert "000000    0.5       7  4.0 %" in capsys.readouterr().out
    (workspace.unit_dir("align") / "fits.csv").unlink()
    assert cli.main(["align", str(workspace.root)]) == 1
    assert "is damaged" in capsys.readouterr().err
