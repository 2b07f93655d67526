"""The page of stereo depth shows what is where."""

import numpy as np

from recon4d.formats.pictures import read_rgb
from recon4d.scene.depth import DepthKind, DepthMap, Provenance
from recon4d.view.stereo_page import GAP, HEAD, MARGIN, NOTHING, ORIGINS, StereoRow, stereo_page, write_stereo_page


def row_of(name="000000", confidence=1.0):
    """Left third measured, middle third completed, right third without depth; a red picture."""
    values = np.full((60, 90), 2.0, dtype=np.float32)
    valid = np.ones(values.shape, dtype=bool)
    valid[:, 60:] = False
    provenance = np.full(values.shape, Provenance.MEASURED)
    provenance[:, 30:] = Provenance.COMPLETED
    depth = DepthMap(DepthKind.SCENE_Z, values, valid, np.full(values.shape, confidence), provenance)
    return StereoRow(name, np.full((120, 180, 3), (200, 10, 10), dtype=np.uint8), depth)


def cells(page, rows):
    """The four pictures of each row, found by the page's own grid."""
    width = (page.shape[1] - 2 * MARGIN - 3 * GAP) // 4
    height = round(width * 120 / 180)
    return [
        [
            page[HEAD + line * (height + GAP) :, MARGIN + column * (width + GAP) :][:height, :width]
            for column in range(4)
        ]
        for line in range(rows)
    ]


def test_origins_have_their_colours_and_what_moves_has_none():
    _, _, _, origin = cells(stereo_page("clip", "numbers", [row_of()]), 1)[0]
    height, width = origin.shape[:2]
    found = [tuple(origin[height // 2, round(share * width)]) for share in (0.15, 0.5, 0.85)]
    assert found == [ORIGINS[Provenance.MEASURED][1], ORIGINS[Provenance.COMPLETED][1], NOTHING[1]]


def test_surer_depth_is_brighter_in_the_third_column():
    rows = cells(stereo_page("clip", "numbers", [row_of(confidence=0.2), row_of(confidence=0.9)]), 2)
    unsure, sure = (row[2][10, 10].astype(int).sum() for row in rows)
    assert sure > unsure + 50


def test_a_row_without_any_depth_beside_others_is_drawn():
    empty = row_of()
    none = DepthMap(
        DepthKind.SCENE_Z, np.zeros((60, 90)), np.zeros((60, 90)), np.zeros((60, 90)), empty.depth.provenance
    )
    page = stereo_page("clip", "numbers", [row_of(), StereoRow("000001", empty.picture, none)])
    assert (cells(page, 2)[1][3] == NOTHING[1]).all()


def test_the_page_is_written_as_a_picture(tmp_path):
    write_stereo_page(tmp_path / "depth.png", "clip", "numbers", [row_of()])
    assert np.array_equal(read_rgb(tmp_path / "depth.png"), stereo_page("clip", "numbers", [row_of()]))
