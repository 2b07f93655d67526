"""The whole line on the synthetic clip: its accuracy, its files, no-op, changed options, kill and resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open3d as o3d
import pycolmap
import pytest
import trimesh

import recon4d
from recon4d.stages import fuse
from recon4d.stages.evaluate import EvaluateOptions, evaluate
from recon4d.workspace import Workspace


def command(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "recon4d", *map(str, words)], capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture
def scene_copy(reconstructed, tmp_path) -> Path:
    shutil.copytree(reconstructed.scene, tmp_path / "scene")
    return tmp_path / "scene"


def test_every_stage_is_done(reconstructed):
    workspace = Workspace(reconstructed.scene)
    for unit in ("frames", "poses", "depth/precomputed", "align", "motion", "mesh", "refine", "fuse", "export"):
        assert workspace.record(unit) is not None, unit
    assert workspace.record("frames").summary["frames"] == 24
    assert "kind affine_disparity" in reconstructed.output  # what was detected is said
    assert "matched to the frames by name" in reconstructed.output


def test_accuracy_against_the_truth(reconstructed):
    clip = reconstructed.clip
    options = EvaluateOptions(depth_gt=clip.depth, trajectory_gt=clip.trajectory, mask_gt=clip.mask)
    scores = evaluate(Workspace(reconstructed.scene), options)
    assert scores["registered"]["share"] >= 0.95
    assert scores["trajectory"]["ate"]["rmse"] < 0.02  # metres; the path is over a metre long
    depth = scores["depth"]["clip-median"]["all"]
    assert depth["abs_rel"] < 0.06  # the simulated depth bends by 5 %
    assert depth["delta1"] > 0.97
    assert scores["mask"]["precision"] > 0.95
    assert scores["mask"]["false_alarms"] < 0.002


def test_refinement_brings_depth_closer_to_the_truth(reconstructed):
    clip, found = reconstructed.clip, {}
    for stage in ("align", "refine"):
        options = EvaluateOptions(
            depth_gt=clip.depth, trajectory_gt=clip.trajectory, mask_gt=clip.mask, stage=stage, max_depth=0
        )
        found[stage] = evaluate(Workspace(reconstructed.scene), options)
    before, after = (found[stage]["depth"]["clip-median"] for stage in ("align", "refine"))
    assert after["static"]["abs_rel"] < 0.9 * before["static"]["abs_rel"]
    assert after["moving"]["abs_rel"] < 1.05 * before["moving"]["abs_rel"]
    assert found["refine"]["temporal"]["flicker_median"] < found["align"]["temporal"]["flicker_median"]
    assert "energy photometric" in reconstructed.output


def test_second_run_does_nothing_and_says_so(reconstructed):
    before = {p: p.stat().st_mtime_ns for p in reconstructed.scene.rglob("*.npz")}
    done = command("run", reconstructed.clip.video, "--out", reconstructed.scene)
    assert done.returncode == 0
    assert done.stdout.count("up to date") == 9
    assert before == {p: p.stat().st_mtime_ns for p in reconstructed.scene.rglob("*.npz")}


def test_changed_option_redoes_what_depends_on_it(scene_copy):
    done = command("run", "--out", scene_copy, "--mesh.max-ratio", 1.1, "--until", "fuse")
    assert done.returncode == 0, done.stderr
    assert "redoing mesh, then refine, fuse: changed: --mesh.max-ratio" in done.stdout
    assert done.stdout.count("up to date") == 5  # frames, poses, depth, align, motion
    info = command("info", scene_copy).stdout
    assert "out of date: " in next(line for line in info.splitlines() if "export" in line)


def test_verb_keeps_what_is_not_named(scene_copy):
    assert command("mesh", scene_copy, "--max-ratio", 1.2).returncode == 0
    done = command("mesh", scene_copy, "--min-angle-deg", 3)
    assert done.returncode == 0, done.stderr
    record = Workspace(scene_copy).record("mesh")
    assert record.options == {"max_ratio": 1.2, "min_angle_deg": 3}
    assert "fuse, export" in done.stdout  # made from older results now
    assert command("mesh", scene_copy, "--reset").returncode == 0
    assert Workspace(scene_copy).record("mesh").options["max_ratio"] == recon4d.MeshOptions().max_ratio


def test_killed_run_goes_on_and_ends_with_the_same_files(reconstructed, scene_copy):
    shutil.rmtree(scene_copy / "align")
    shutil.rmtree(scene_copy / "mesh")
    arguments = [sys.executable, "-m", "recon4d", "run", "--out", str(scene_copy), "--until", "mesh"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(scene_copy.glob(".part/align-*/00000*.npz")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (scene_copy / "align").exists()
    assert command("run", "--out", scene_copy, "--until", "mesh").returncode == 0
    for unit in ("align", "mesh"):
        for path in sorted((reconstructed.scene / unit).glob("*.npz")):
            assert path.read_bytes() == (scene_copy / unit / path.name).read_bytes(), path.name


def test_readers_give_arrays_that_fit_together(reconstructed):
    workspace = Workspace(reconstructed.scene)
    scene = workspace.scene()
    name = scene.names[5]
    picture, surface = workspace.picture(name), workspace.scene_depth(name)
    assert picture.shape[:2] == surface.depth.shape == scene.trajectory[name].camera.shape
    static, moving, both = scene.static, scene.moving(name), scene.frame(name)
    assert len(static) > 10_000
    np.testing.assert_array_equal(both.points, np.concatenate([static.points, moving.points]))
    np.testing.assert_array_equal(both.object_id, np.concatenate([static.object_id, moving.object_id]))
    assert (static.object_id == 0).all()


def test_world_is_levelled(reconstructed):
    up_axis = trajectory_up(reconstructed)
    assert up_axis[2] > np.cos(np.radians(8))


def trajectory_up(reconstructed) -> np.ndarray:
    """True up (z of the synthetic room) in the exported frame."""
    from recon4d.formats.trajectories import read_tum
    from recon4d.geometry.similarity import fit_similarity

    times, truth = read_tum(reconstructed.clip.trajectory)
    got_times, got = read_tum(reconstructed.scene / "export" / "tum" / "trajectory.tum")
    rows = [int(np.argmin(np.abs(times - t))) for t in got_times]
    exported_from_true = fit_similarity(truth.translation[rows], got.translation)
    return exported_from_true.rotation @ np.array([0.0, 0, 1])


def test_exports_open_in_other_programs(reconstructed):
    export = reconstructed.scene / "export"
    cloud = o3d.io.read_point_cloud(str(export / "ply" / "static.ply"))
    assert len(cloud.points) == Workspace(reconstructed.scene).record("fuse").summary["static_points"]
    assert np.asarray(cloud.colors).std() > 0.05
    scene, recording = trimesh.load(export / "glb" / "scene.glb"), Workspace(reconstructed.scene).scene()
    shown = {name.removesuffix(" points") for name in scene.graph.nodes_geometry}
    moves = [name for name in recording.names if len(recording.moving(name))]
    assert shown == {"static", *moves}
    assert len(list((export / "ply" / "meshes").glob("*.ply"))) == 24
    model = pycolmap.Reconstruction(str(export / "colmap" / "sparse" / "0"))
    assert model.num_reg_images() >= 23
    frames = json.loads((export / "nerfstudio" / "transforms.json").read_text())["frames"]
    assert all((export / "nerfstudio" / frame["file_path"]).exists() for frame in frames)
    one_of = {"ply": "static.ply", "glb": "scene.glb", "usd": "scene.usdc", "html": "index.html", "pcd": "static.pcd"}
    one_of |= {"las": "static.las", "laz": "static.laz", "exr": "depth", "png": "depth.json", "kitti": "times.txt"}
    assert all((export / name / file).exists() for name, file in one_of.items())
    assert (export / "import_recon4d.py").stat().st_size > 1000


def test_info_names_the_key_numbers(reconstructed):
    text = command("info", reconstructed.scene).stdout
    for word in ("24 frames of 320x240", "frames have a pose", "median residual", "background of"):
        assert word in text
    records = json.loads(command("info", reconstructed.scene, "--json").stdout)
    assert [record["unit"] for record in records][:2] == ["frames", "poses"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("picture_of_depth", ["{scene}", "000004", "{out}/depth.png"]),
        ("open3d_and_trimesh", ["{scene}", "{out}/background.obj"]),
        ("reconstruct", ["{clip}", "{depth}", "{scene_copy}"]),
        ("synthetic_truth", ["{out}/warped.png"]),
    ],
)
def test_examples_run(reconstructed, scene_copy, tmp_path, script, words):
    places = {
        "scene": reconstructed.scene,
        "scene_copy": scene_copy,
        "clip": reconstructed.clip.video,
        "depth": reconstructed.clip.simulated_depth,
        "out": tmp_path,
    }
    path = Path(__file__).parents[1] / "examples" / f"{script}.py"
    assert len(path.read_text().splitlines()) <= 80
    arguments = [sys.executable, str(path), *(word.format(**places) for word in words)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    for word in words:
        if word.startswith("{out}"):
            assert Path(word.format(**places)).stat().st_size > 1000


def paint(scene: Path, name: str, columns: slice) -> None:
    """Give part of a frame's undistorted picture a colour that nothing in the room has."""
    from recon4d.formats.pictures import read_rgb, write_picture

    path = scene / "poses" / "images" / f"{name}.jpg"
    picture = read_rgb(path)
    picture[:, columns] = (255, 0, 255)
    path.unlink()  # it may share its bytes with frames/
    write_picture(path, picture)


def magenta_share(colors: np.ndarray) -> float:
    return float(((colors[:, 0] > 200) & (colors[:, 1] < 60) & (colors[:, 2] > 200)).mean())


def test_interpolated_poses_are_no_evidence(scene_copy):
    workspace = Workspace(scene_copy)
    name = workspace.trajectory().names[9]
    paint(scene_copy, name, slice(None))
    path = scene_copy / "refine" / "cameras.json"
    cameras = json.loads(path.read_text())
    next(f for f in cameras["frames"] if f["name"] == name)["origin"] = "interpolated"
    path.write_text(json.dumps(cameras))
    fuse.run(workspace, fuse.FuseOptions(min_agreement=0.6))
    assert magenta_share(workspace.static_cloud().colors) == 0
    assert magenta_share(workspace.static_mesh().colors) == 0


def test_masked_pixels_stay_out_of_the_background(scene_copy):
    from recon4d.formats.pictures import write_picture

    workspace = Workspace(scene_copy)
    (scene_copy / "poses" / "masks").mkdir(exist_ok=True)
    for name in workspace.trajectory().names:
        paint(scene_copy, name, slice(0, 100))
        mask = np.zeros(workspace.picture(name).shape[:2], dtype=np.uint8)
        mask[:, :101] = 255
        write_picture(scene_copy / "poses" / "masks" / f"{name}.png", mask)
    fuse.run(workspace, fuse.FuseOptions(min_agreement=0.6))
    assert magenta_share(workspace.static_cloud().colors) < 1e-4


def test_refused_options_do_not_stay_in_the_scene(scene_copy):
    assert command("align", scene_copy, "--step", "nan").returncode == 1
    assert command("export", scene_copy, "--frames", "nothing-of-this-name").returncode == 1
    done = command("run", "--out", scene_copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("up to date") == 9


def test_missing_file_in_a_scene_says_how_to_go_on(scene_copy):
    next((scene_copy / "align").glob("*.npz")).unlink()
    done = command("mesh", scene_copy, "--max-ratio", 1.2)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "is damaged" in done.stderr
    assert "delete that folder and run recon4d run --out" in done.stderr
    shutil.rmtree(scene_copy / "align")
    assert command("run", "--out", scene_copy, "--until", "mesh").returncode == 0


def test_options_may_stand_before_the_scene(scene_copy):
    done = command("mesh", "--max-ratio", 1.2, scene_copy)
    assert done.returncode == 0, done.stderr


def test_python_users_may_give_paths_as_text(reconstructed):
    from recon4d.pipeline import absolute_paths

    options = absolute_paths(recon4d.Options(depth=recon4d.DepthOptions(path="depth.npz")))
    assert options.depth.path == Path("depth.npz").resolve()
