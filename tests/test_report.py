"""The report of a scene with known numbers: what it says, what it shows, and what it survives."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from fabricated import METRES_PER_UNIT, fabricate
from report_html import read_page

from recon4d import cli, pipeline
from recon4d.errors import AlignmentError, PosesError
from recon4d.formats.pictures import write_picture
from recon4d.formats.ply import write_cloud
from recon4d.progress import Silent
from recon4d.scene.cloud import PointCloud
from recon4d.stages import frames as frames_module
from recon4d.stages import report as report_module
from recon4d.stages.common import options_as_json, stage_key
from recon4d.stages.motion import MotionOptions
from recon4d.stages.report import reported, write_report
from recon4d.stages.report_facts import finite, report_facts
from recon4d.view import report_page as page_module
from recon4d.view.report_parts import breakable, duration, megabytes, percent, tag
from recon4d.view.report_pictures import Gallery, Shot
from recon4d.view.summary import summary_line
from recon4d.workspace import StageRecord, Workspace

NASTY = '<b>&"'


def tell(workspace: Workspace, unit: str, **more: object) -> None:
    """Give a unit a record with these values; make the unit where it is not there."""
    record = workspace.record(unit) or StageRecord(unit, 1, f"key of {unit}", {}, {})
    folder = workspace.unit_dir(unit)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.json").write_text(json.dumps(dataclasses.asdict(dataclasses.replace(record, **more))))


@pytest.fixture
def scene(tmp_path) -> Workspace:
    """The fabricated scene, with numbers that can be followed by hand."""
    workspace = fabricate(tmp_path / "s", ball_moves=True)
    others = shutil.ignore_patterns("stage.json")
    shutil.copytree(workspace.unit_dir("mesh"), workspace.unit_dir("refine"), ignore=others)
    shutil.copy(workspace.unit_dir("poses") / "cameras.json", workspace.unit_dir("refine"))
    tell(workspace, "refine", inputs={"poses": "key of poses", "mesh": "key of mesh"})
    for unit, summary in {
        "frames": {"frames": 5, "width": 64, "height": 48, "kind": "video", "fps": 10.0, "source_frames": 15},
        "poses": {"source": "colmap", "frames": 5, "registered": 4, "points": 7, "reprojection_error_px": 0.25},
        "align": {"frames": 4, "residual_median": 0.02, "held_out": {"median": 0.03, "percentile_95": math.nan}},
        "motion": {"frames": 4, "objects": 1, "moving_share": 0.125},
        "refine": {"refined": 4, "energy_left": 0.75, "alike": {"before": 0.5, "after": 0.625}},
        "fuse": {"static_points": 1200, "static_triangles": 800, "coverage": 0.9, "moving_points": 30},
    }.items():
        tell(workspace, unit, summary=summary, seconds=2.5, peak_memory_mb=len(unit) * 100.0)
    tell(workspace, "motion", warnings=["motion: it rains"])
    scale = {"metres_per_unit": METRES_PER_UNIT, "interval_95": [1.9, 2.2], "source": "a marker", "new key": 1}
    (workspace.unit_dir("align") / "scale.json").write_text(json.dumps(scale))
    turned = {"levelled_from_scene": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 1], [0, 0, 0, 1]]}
    (workspace.unit_dir("align") / "world_up.json").write_text(json.dumps(turned))
    return workspace


def page_of(workspace: Workspace):
    return read_page(write_report(workspace).read_text(encoding="utf-8"))


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_by_hand(scene):
    write_report(scene)
    report = json.loads((scene.root / "report.json").read_text(), parse_constant=pytest.fail)
    numbers = report["numbers"]
    assert report["format"] == 1
    assert numbers["frames"] == 5
    assert numbers["registered_share"] == pytest.approx(0.8)
    assert numbers["reprojection_error_px"] == 0.25
    assert numbers["align_residual"] == 0.02
    assert numbers["held_out_residual"] == 0.03
    assert numbers["held_out_residual_95"] is None  # not a number
    assert numbers["metres_per_unit"] == 2.0
    assert numbers["interval_95"] == [1.9, 2.2]
    assert numbers["scale_interval_relative"] == pytest.approx(0.3 / 2 / 2.0)
    assert numbers["energy_gain"] == pytest.approx(0.25)
    assert numbers["zncc_gain"] == pytest.approx(0.125)
    assert (numbers["objects"], numbers["moving_share"], numbers["static_points"]) == (1, 0.125, 1200)
    assert numbers["seconds"] == pytest.approx(6 * 2.5)
    assert numbers["peak_memory_mb"] == 600.0  # frames, motion and refine have six letters
    assert numbers["warnings"] == 1
    assert report["warnings"] == [{"unit": "motion", "text": "motion: it rains"}]
    # Four frames from x = -0.5 in steps of (0.25, 0, 0.1) units of 2 m.
    assert numbers["path_length"] == pytest.approx(3 * math.hypot(0.25, 0.1) * 2.0, abs=1e-4)
    assert numbers["length_unit"] == "m"


def test_extent_is_levelled_and_in_metres(scene):
    low, high = np.quantile(scene.levelled_from_scene() @ scene.static_cloud().points, [0.01, 0.99], axis=0)
    np.testing.assert_allclose(report_facts(scene)["numbers"]["extent"], 2.0 * (high - low), atol=1e-3)


def test_states_of_the_stages(scene):
    tell(scene, "mesh", inputs={"align": "an older one"})
    facts = report_facts(scene)
    states = {item["unit"]: item["state"] for item in facts["stages"]}
    assert states["mesh"] == "out of date"
    assert (states["depth"], states["export"]) == ("not done", "not done")
    assert states["poses"] == "done"
    assert not facts["complete"]
    assert facts["next"] == f"recon4d run INPUT --out {scene.root}"  # no options.toml tells of the recording


def test_options_that_differ_from_the_defaults_are_marked(scene):
    tell(scene, "frames", options={"stride": 3})  # of a version that knew no others
    tell(scene, "align", options={"metric": {"marker": 0.1}})
    (scene.root / "options.toml").write_text("[frames]\nstride = 3\n[align.metric]\nmarker = 0.1\n[export]\nup = 'y'\n")
    facts = report_facts(scene)
    changed = {row["flag"]: row["value"] for row in facts["options"] if row["changed"]}
    assert changed == {"--frames.stride": 3, "--metric.marker": 0.1, "--export.up": "y"}
    assert [item["unit"] for item in facts["stages"] if "changed: " in (item["why"] or "")] == []


def test_options_that_made_nothing_are_not_told_as_used(scene, capsys):
    tell(scene, "fuse", options={"min_views": 4})
    tell(scene, "export", inputs={"fuse": "key of fuse", "refine": "key of refine"})
    # As Ctrl-C in `recon4d fuse --min-views 20`, or an edit by hand, leaves it; threads change no result.
    (scene.root / "options.toml").write_text("[fuse]\nmin_views = 20\n[poses]\nthreads = 7\n")
    facts = report_facts(scene)
    (row,) = (row for row in facts["options"] if row["flag"] == "--fuse.min-views")
    assert row["value"] == 4
    why = {item["unit"]: item["why"] for item in facts["stages"] if item["state"] == "out of date"}
    assert why == {"fuse": "changed: --fuse.min-views", "export": "made from fuse, out of date too"}
    assert not facts["complete"]
    assert cli.main(["check", str(scene.root), "--up-to-date"]) == 3
    assert cli.main(["info", str(scene.root)]) == 0
    assert "out of date: changed: --fuse.min-views" in capsys.readouterr().out


def test_a_file_that_only_lies_elsewhere_is_no_change(scene, tmp_path):
    for name, content in (("a", b"model"), ("b", b"model"), ("c", b"another")):
        (tmp_path / f"{name}.onnx").write_bytes(content)
    options = MotionOptions(flow=tmp_path / "a.onnx")
    tell(scene, "motion", key=stage_key("motion", 1, options, {}), options=options_as_json(options))
    for name, why in (("a", None), ("b", None), ("c", "changed: --motion.flow"), ("gone", "changed: --motion.flow")):
        (scene.root / "options.toml").write_text(
            f"[input]\npath = '{tmp_path}'\n[motion]\nflow = '{tmp_path / name}.onnx'\n"
        )
        assert pipeline.stale_units(scene).get("motion") == why, name


def test_depth_that_is_to_be_made_is_not_done(scene):
    for name in ("precomputed", "mvs"):
        tell(scene, f"depth/{name}", options={"path": "d.npz"} if name == "precomputed" else {"max_size": 200})
    scene.put_in_force(["precomputed"])
    (scene.root / "options.toml").write_text(
        "[depth]\nsource = 'precomputed,onnx'\npath = 'd.npz'\nmodel = ['m.onnx']\n"
    )
    facts = report_facts(scene)
    states = {item["unit"]: item["state"] for item in facts["stages"] if item["stage"] == "depth"}
    assert states == {"depth/precomputed": "out of date", "depth/onnx": "not done", "depth/mvs": "not used"}
    values = {row["flag"]: row["value"] for row in facts["options"]}
    assert (values["--depth.source"], values["--depth.path"]) == ("precomputed", "d.npz")


def test_a_result_whose_folder_was_deleted_is_gone(scene):
    tell(scene, "fuse", inputs={"motion": "key of motion", "refine": "key of refine", "poses": "an older one"})
    shutil.rmtree(scene.unit_dir("motion"))
    assert pipeline.stale_units(scene)["fuse"] == "motion is gone and poses changed since"


def test_commands_can_be_pasted_where_the_folder_has_a_space(tmp_path, capsys):
    workspace = Workspace.create(tmp_path / "my scene")
    root = f"'{workspace.root}'"
    assert report_facts(workspace)["next"] == f"recon4d run INPUT --out {root}"
    (workspace.root / "options.toml").write_text("[input]\npath = '/tmp/clip.mp4'\n")
    assert report_facts(workspace)["next"] == f"recon4d run --out {root}"
    assert cli.main(["info", str(workspace.root)]) == 0
    assert f"next: recon4d run INPUT --out {root}" in capsys.readouterr().out
    for verb in ("mesh", "view"):
        assert cli.main([verb, str(workspace.root)]) == 1
        assert root in capsys.readouterr().err


def test_damaged_options_are_a_warning(scene):
    (scene.root / "options.toml").write_text("[frames\n")
    facts = report_facts(scene)
    assert {row["stage"] for row in facts["options"]}.isdisjoint({"depth", "export"})  # not done, and nobody knows
    assert "not valid TOML" in facts["warnings"][-1]["text"]
    assert "not valid TOML" in page_of(scene).text


def test_models_and_licences(scene):
    told = {"model": "me/net", "licence": "CC-BY-NC-4.0", "commercial_use": False, "terms": "https://example.org/t"}
    tell(scene, "depth/transformers", summary={"kind": "affine_disparity", **told})
    tell(scene, "depth/depthcrafter", summary={"model": "tencent/DepthCrafter", "base_model": "b", "base_licence": "L"})
    models = {model["model"]: model for model in report_facts(scene)["models"]}
    assert models["me/net"] == {"unit": "depth/transformers", "role": "depth", **told}
    assert models["tencent/DepthCrafter"]["licence"] == "academic and research use only"  # an older record: looked up
    assert (models["b"]["role"], models["b"]["licence"]) == ("base model", "L")
    page = page_of(scene)
    assert "not allowed" in page.text
    assert "https://example.org/t" in page.text
    assert {"PyTorch", "COLMAP through pycolmap"} <= {item["program"] for item in report_facts(scene)["programs"]}


def test_every_depth_from_a_file_is_told_but_not_what_nothing_reads(scene):
    for name, options, summary in (
        ("precomputed", {"path": "/d/a.npz"}, {"sensor": False}),
        ("other", {"path": "/d/b.npz", "kind": "auto"}, {"sensor": False}),
        ("lidar", {"path": "/d/c.npz"}, {"sensor": True}),
        ("onnx", {}, {"model": "left-over.onnx", "licence": "X"}),
        ("transformers", {}, {"model": "read.onnx", "licence": "Y"}),
    ):
        tell(scene, f"depth/{name}", options=options, summary={"kind": "scene_z"} | summary)
    scene.put_in_force(["precomputed", "other", "lidar"])
    tell(scene, "align", inputs={"depth/transformers": "key of depth/transformers"})  # made before it became idle
    models = [(model["unit"], model["model"]) for model in report_facts(scene)["models"]]
    assert models == [
        ("depth/precomputed", "a.npz"), ("depth/other", "b.npz"), ("depth/transformers", "read.onnx")
    ]  # fmt: skip
    assert "No network has run" not in page_of(scene).text


def test_programs_of_exports(scene):
    tell(scene, "poses", summary={"source": "import"})
    tell(scene, "export", summary={"formats": ["exr", "laz", "colmap", "ply"]})
    units = {item["program"]: item["units"] for item in report_facts(scene)["programs"]}
    assert units["COLMAP through pycolmap"] == ["poses", "export"]
    assert units["OpenEXR"] == units["lazrs"] == units["laspy"] == ["export"]
    assert "OpenUSD" not in units
    assert "No network has run here: only the programs below made this." in page_of(scene).text


def test_time_and_memory_of_the_first_pass_count(scene):
    cost = {"seconds": 100.0, "peak_memory_mb": 5000.0}
    kept = {"key": "key of align", "seconds": 7.0, "peak_memory_mb": 9000.0}  # is the second pass's too
    walked = {"poses": {"key": "before", **cost}, "motion": {"key": "gone", **cost}, "align": kept}
    summary = {"frames": 3, "frames_with_movers": 3, "moving_share": 0.1}
    (scene.root / "options.toml").write_text("[poses]\nsecond_pass = true\n")
    tell(scene, "first_pass", summary=summary, seconds=0.5)  # of an earlier version
    assert report_facts(scene)["numbers"]["seconds"] == pytest.approx(6 * 2.5 + 0.5)
    tell(scene, "first_pass", summary=summary | {"walked": walked})
    facts = report_facts(scene)
    assert facts["numbers"]["seconds"] == pytest.approx(6 * 2.5 + 0.5 + 200.0)
    assert facts["numbers"]["peak_memory_mb"] == 5000.0
    (item,) = (item for item in facts["stages"] if item["unit"] == "first_pass")
    assert (item["seconds"], item["peak_memory_mb"]) == (200.5, 5000.0)
    assert cli.main(["check", str(scene.root), "--max-seconds", "100"]) == 3


def test_every_key_is_written_down(scene):
    write_report(scene)
    report = json.loads((scene.root / "report.json").read_text())
    text = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    assert [key for key in (*report, *report["numbers"]) if f"`{key}`" not in text] == []


def test_nothing_that_json_does_not_know():
    assert finite({"a": [math.nan, -math.inf, 1.5], 2: ("x", True, None)}) == {
        "a": [None, None, 1.5],
        "2": ["x", True, None],
    }


@pytest.mark.parametrize(
    ("said", "wanted"),
    [(duration(8.44), "8.4 s"), (duration(126), "2 min 06 s"), (duration(3900), "1 h 05 min"), (duration(None), "–"),
     (megabytes(0.4), "0.4 MB"), (megabytes(933.5), "934 MB"), (megabytes(1500), "1.5 GB"),
     (percent(0.9712, 0), "97 %"), (percent(0.00012), "0.012 %"), (percent(0.0), "0.0 %")],
)  # fmt: skip
def test_words_for_numbers(said, wanted):
    assert said == wanted


@pytest.mark.parametrize("unit", ["frames", "poses", "first_pass", "depth/mvs", "align", "motion", "mesh", "refine",
                                  "fuse", "export"])  # fmt: skip
def test_a_record_without_its_numbers_is_told_in_plain_words(unit):
    record = StageRecord(unit, 1, "k", {}, {}, summary={"of_the_future": 3, "frames": "many"}, seconds=4.0)
    said = summary_line(record)
    assert said.startswith(f"{unit}: ")
    assert said.endswith("(4 s)")


def test_files_and_megabytes_in_words():
    def said(files: int, size_mb: float) -> str:
        summary = {"files": files, "size_mb": size_mb, "up": "z", "units": "metres"}
        return summary_line(StageRecord("export", 1, "k", {}, {}, summary=summary))

    assert said(1, 4.12).startswith("export: 1 file, 4.1 MB, z up")
    assert said(20, 12.6).startswith("export: 20 files, 13 MB, z up")


# -- the page ----------------------------------------------------------------------------------------------------------


def test_page_shows_what_is_done_and_says_what_is_missing(scene):
    page = page_of(scene)
    assert {"frames", "poses", "align", "size", "motion", "refine", "fuse", "work", "made"} <= set(page.ids)
    assert not {"depth", "export"} & set(page.ids)
    assert "not done yet: depth, export" in page.text
    assert f"recon4d run INPUT --out {scene.root}" in page.text
    assert "4 of 5 frames have a camera pose" in page.text
    assert (
        "One unit of the scene is 2 m, with 95 % chance between 1.9 and 2.2 m (± 7.5 %); known from a marker."
        in page.text
    )
    assert "it rains" in page.text
    # Four frames with depth, the bar, sparse points; of two frames the picture, aligned, cut and refined depth and what
    # changed; three views of the fused scene.
    assert len(page.sources) == 4 * 2 + 1 + 1 + 2 * 5 + 3


def test_scene_in_which_nothing_is_done(tmp_path):
    page = page_of(Workspace.create(tmp_path / "s"))
    assert "Nothing is done yet." in page.text
    assert "longest bar" not in page.text
    assert "only the programs below" not in page.text
    assert page.sources == []


def test_one_frame_and_unknown_size(tmp_path):
    workspace = fabricate(tmp_path / "s", frames=1, known=False)
    page = page_of(workspace)
    assert "up is not known" in page.text
    assert "A picture is missing here" not in page.text
    assert len(page.sources) == 2 + 1 + 1 + 3 + 3  # the frame with depth, bar, sparse, aligned and cut, the scene


def test_no_background_and_nothing_that_moves(tmp_path):
    workspace = fabricate(tmp_path / "s", frames=2)
    empty = PointCloud(np.zeros((0, 3)), np.zeros((0, 3)))
    for file in ("static.ply", "moving/000000.ply", "moving/000003.ply"):
        write_cloud(workspace.unit_dir("fuse") / file, empty)
    page = page_of(workspace)
    assert "A picture is missing here" not in page.text
    assert "with what moves" not in page.text
    assert report_facts(workspace)["numbers"]["extent"] is None


def test_names_and_texts_are_escaped(tmp_path):
    workspace = fabricate(tmp_path / NASTY.replace('"', "'"))
    nasty = {"model": NASTY, "licence": NASTY, "terms": NASTY, "kind": NASTY}
    tell(workspace, "depth/transformers", summary=nasty, warnings=[f"depth: {NASTY} --depth.{NASTY}"])
    tell(workspace, f"depth/{NASTY.replace('/', '')}", summary={"kind": "scene_z"})
    export = workspace.unit_dir("export") / "ply"
    tell(workspace, "export", summary={"formats": ["ply", NASTY]})
    export.mkdir(parents=True)
    (export / f"{NASTY} #1.ply").write_bytes(b"1234")
    (workspace.root / "options.toml").write_text(f"[input]\npath = '/tmp/{NASTY}'\n")
    page = page_of(workspace)
    assert "b" not in page.tags - {"b"}
    assert page.text.count(NASTY) >= 5
    assert "export/ply/%3Cb%3E%26%22%20%231.ply" in page.links
    assert tag("p", NASTY, title=NASTY) == '<p title="&lt;b&gt;&amp;&quot;">&lt;b&gt;&amp;&quot;</p>'


def test_damaged_and_missing_files_cost_their_picture_alone(scene):
    (scene.unit_dir("motion") / "motion.png").write_bytes(b"no picture")
    (scene.unit_dir("fuse") / "moving/000000.ply").unlink()
    (scene.unit_dir("refine") / "000000.npz").write_bytes(b"no archive")
    page = page_of(scene)
    assert "motion.png is missing or not a readable picture" in page.text
    assert page.text.count("A picture is missing here") == 3
    assert len(page.sources) == 4 + 1 + 2 * 5 + 2  # the frames are there, without their depth
    assert "work" in page.ids


def test_records_of_other_versions(scene):
    tell(scene, "poses", summary={"source": "colmap", "frames": "many", "registered": None, "of the future": [1, {}]})
    tell(scene, "refine", summary={"alike": 0.5, "energy_left": [1]})
    numbers = report_facts(scene)["numbers"]
    assert (numbers["registered"], numbers["registered_share"], numbers["zncc_gain"]) == (None, None, None)
    assert "poses" in page_of(scene).ids


def test_two_sources_of_depth_and_an_idle_one(scene):
    for name, color in (("mvs", 200), ("onnx", 90), ("old", 30)):
        tell(scene, f"depth/{name}", summary={"kind": "scene_z", "frames": 4})
        write_picture(scene.unit_dir(f"depth/{name}") / "depth.png", np.full((20, 30, 3), color, np.uint8))
    scene.put_in_force(["mvs", "onnx"])
    states = {item["unit"]: item["state"] for item in report_facts(scene)["stages"]}
    assert (states["depth/mvs"], states["depth/onnx"], states["depth/old"]) == ("done", "done", "not used")
    page = page_of(scene)
    assert "depth/mvs: 4 frames" in page.text
    assert "depth/onnx: 4 frames" in page.text


def test_first_of_two_passes(scene):
    frames = scene.unit_dir("frames")
    (frames / "frames.csv").write_text(
        "name,source_index,source_name,timestamp_s,shot\n"
        + "".join(f"{i:06d},{i},c.mp4,{i / 10},0\n" for i in (0, 3, 6))
    )
    tell(scene, "first_pass", summary={"frames": 3, "frames_with_movers": 3, "moving_share": 0.1})
    (scene.unit_dir("first_pass") / "mask").mkdir()
    for name in ("000000", "000003", "000006"):
        write_picture(frames / f"{name}.jpg", np.full((48, 64, 3), 99, np.uint8))
        write_picture(scene.unit_dir("first_pass") / "mask" / f"{name}.png", np.full((48, 64), 255, np.uint8))
    (scene.root / "options.toml").write_text("[poses]\nsecond_pass = true\n")
    page = page_of(scene)
    assert "The first of two passes" in page.text
    assert "10.0 % of the pixels move, in 3 of 3 frames" in page.text


def test_a_page_of_many_large_pictures_stays_small(scene, monkeypatch):
    assert page_module.LARGEST <= 6_000_000
    monkeypatch.setattr(page_module, "LARGEST", 600_000)
    noise = np.random.default_rng(0).integers(0, 255, (210, 300, 3)).astype(np.uint8)
    gallery = Gallery(frames=[Shot("noise", (noise + np.uint8(k),)) for k in range(14)])
    text = page_module.report_page(report_facts(scene), gallery, {})
    assert 100_000 < len(text) <= 600_000
    assert len(read_page(text).sources) == 14


def test_player_is_linked_at_the_top(scene):
    player = scene.unit_dir("export") / "html"
    tell(scene, "export", summary={"formats": ["html"]})
    player.mkdir()
    (player / "index.html").write_text("<html></html>")
    page = page_of(scene)
    assert page.links[0] == "export/html/index.html"
    assert "Look around in the scene in 3D" in page.text


def test_files_of_the_blender_script_are_no_format(scene):
    root = scene.unit_dir("export")
    tell(scene, "export", summary={"formats": ["glb", "tum"]})
    for file in ("glb/scene.glb", "tum/a.tum", "import_recon4d.py", "blender/clip.json", "blender/helper.py"):
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text("12345")
    exports = {item["format"]: item["open"] for item in report_facts(scene)["exports"]}
    assert exports == {
        "glb": ["export/glb/scene.glb"],
        "tum": ["export/tum/a.tum"],
        "Blender script": ["export/import_recon4d.py"],
    }
    page = page_of(scene)
    assert "export/import_recon4d.py" in page.links
    assert "helper.py" not in page.text


def test_long_paths_break_between_their_parts(scene):
    assert breakable("a/<b>/c.npz") == "a/<wbr/>&lt;b&gt;/<wbr/>c.npz"
    tell(scene, "depth/precomputed", options={"path": "/long/way/depth.npz"}, seconds=1.0)
    text = write_report(scene).read_text(encoding="utf-8")
    assert "<td>depth/<wbr/>precomputed</td>" in text  # in the table of times, on a phone
    assert "/long/way/depth.npz" in read_page(text).text


# -- when it is written ------------------------------------------------------------------------------------------------


def test_nothing_is_made_again_when_nothing_changed(scene):
    page = write_report(scene)
    before = page.stat().st_mtime_ns
    assert write_report(scene).stat().st_mtime_ns == before
    tell(scene, "fuse", warnings=["fuse: new"])
    assert "new" in page_of(scene).text
    assert page.stat().st_mtime_ns > before


def test_a_run_that_stops_leaves_a_report_that_says_so(scene):
    with pytest.raises(AlignmentError), reported(scene):
        raise AlignmentError(f"align: {NASTY} is no depth")
    page = (scene.root / "report.html").read_text(encoding="utf-8")
    assert f"The last run stopped: align: {NASTY} is no depth" in read_page(page).text
    assert json.loads((scene.root / "report.json").read_text())["stopped"] == f"align: {NASTY} is no depth"
    write_report(scene, anew=True)  # on demand, and nothing has changed
    assert "The last run stopped" in (scene.root / "report.html").read_text(encoding="utf-8")
    with reported(scene):
        pass
    assert "The last run stopped" not in (scene.root / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "told"), [(KeyboardInterrupt(), "stopped by Ctrl-C"), (KeyError("a bug"), "KeyError: 'a bug'")]
)
def test_a_run_that_is_stopped_by_hand_or_a_bug_is_not_called_complete(scene, error, told):
    write_report(scene)
    tell(scene, "fuse", warnings=["fuse: it had begun anew"])
    with pytest.raises(type(error)), reported(scene):
        raise error
    page = read_page((scene.root / "report.html").read_text(encoding="utf-8"))
    assert f"The last run stopped: {told}" in page.text
    assert "it had begun anew" in page.text
    assert json.loads((scene.root / "report.json").read_text())["stopped"] == told
    by_hand = isinstance(error, KeyboardInterrupt)
    assert (page.sources == []) == by_hand  # pictures take their time
    assert ("There was no time for pictures" in page.text) == by_hand
    write_report(scene, anew=True)
    page = read_page((scene.root / "report.html").read_text(encoding="utf-8"))
    assert page.sources != []
    assert f"The last run stopped: {told}" in page.text


def test_a_stage_that_is_stopped_leaves_a_report_that_says_so(tmp_path, monkeypatch, capsys):
    pictures, scene = tmp_path / "pictures", tmp_path / "s"
    pictures.mkdir()
    for k in range(3):
        write_picture(pictures / f"{k}.png", np.full((48, 64, 3), 40 * k, np.uint8))
    assert cli.main(["run", str(pictures), "--out", str(scene), "--until", "frames"]) == 0

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(frames_module, "_work", stopped)
    assert cli.main(["frames", str(scene), "--stride", "2"]) == 130
    report = json.loads((scene / "report.json").read_text())
    assert report["stopped"] == "stopped by Ctrl-C"
    assert {row["flag"]: row["value"] for row in report["options"]}["--frames.stride"] is None
    assert report["stages"][0]["why"] == "changed: --frames.stride"
    assert "old frames: 3 frames" in (cli.main(["info", str(scene)]), capsys.readouterr().out)[1]


class Heard:
    """Progress that keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_a_bug_in_the_page_does_not_fail_the_run_and_shows_its_traceback(scene, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("of a bug")

    monkeypatch.setattr(report_module, "report_facts", broken)
    heard = Heard()
    with reported(scene, heard):
        done = True
    assert done
    (said,) = heard.said
    assert said.startswith("warning: no report was written, because of a bug (ZeroDivisionError: of a bug)")
    assert "Traceback" in caplog.text
    with pytest.raises(ZeroDivisionError):  # asked for by itself it fails as any bug does
        cli.main(["report", str(scene.root)])


def test_a_page_that_cannot_be_written_is_said(scene):
    (scene.root / "report.html").mkdir()
    heard = Heard()
    with reported(scene, heard):
        pass
    assert heard.said[0].startswith("warning: no report was written (")


def test_a_run_and_a_stage_say_where_the_report_is(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(3):
        write_picture(pictures / f"{k}.png", np.full((48, 64, 3), 40 * k, np.uint8))
    scene = tmp_path / "s"
    assert cli.main(["run", str(pictures), "--out", str(scene), "--until", "frames"]) == 0
    assert f"report: {scene / 'report.html'}" in capsys.readouterr().out
    before = (scene / "report.json").read_text()
    assert cli.main(["frames", str(scene), "--stride", "2"]) == 0
    assert f"report: {scene / 'report.html'}" in capsys.readouterr().out
    assert json.loads(before)["numbers"]["frames"] == 3
    assert json.loads((scene / "report.json").read_text())["numbers"]["frames"] == 2
    page = read_page((scene / "report.html").read_text(encoding="utf-8"))
    assert len(page.sources) == 2
    assert f"recon4d run --out {scene}" in page.text
    (scene / "report.html").unlink()
    assert cli.main(["report", str(scene)]) == 0
    assert capsys.readouterr().out.strip() == str(scene / "report.html")
    assert (scene / "report.html").is_file()


@pytest.mark.parametrize("verb", ["report", "check"])
def test_help(verb, capsys):
    assert cli.main(["--help"]) == 0
    assert f"recon4d {verb} SCENE" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0


def test_a_stop_that_changed_nothing_keeps_the_page_with_its_pictures(scene):
    write_report(scene)
    page = (scene.root / "report.html").read_bytes()
    with pytest.raises(KeyboardInterrupt), reported(scene):
        raise KeyboardInterrupt
    assert (scene.root / "report.html").read_bytes() == page


def test_the_error_of_a_run_is_heard_of_though_nobody_reads_what_it_says(scene):
    class Deaf(Silent):
        def say(self, text):
            raise BrokenPipeError

    with pytest.raises(PosesError, match="too few"), reported(scene, Deaf()):
        raise PosesError("too few points")
