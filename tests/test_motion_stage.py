"""The stage motion: on the synthetic clip, and on drawn clips of which every pixel is known to move or to stay."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from motion_scenes import texture
from onnx_models import write_onnx, write_segmentation_model
from poses_scenes import workspace_with
from true_scene import TRUTH_FROM_SCENE, Made, posed_scene, publish

from recon4d import cli, pipeline
from recon4d.errors import InputError, OptionsError
from recon4d.evaluation.mask_scores import pooled_mask_scores
from recon4d.formats.arrays import read_arrays, write_scene_depth
from recon4d.formats.flow_files import write_flo
from recon4d.formats.pictures import read_grey, read_rgb
from recon4d.formats.trajectories import read_tum
from recon4d.progress import Silent
from recon4d.scene.camera import Camera
from recon4d.scene.depth import SceneDepth
from recon4d.scene.trajectory import PoseOrigin, Trajectory
from recon4d.stages import motion
from recon4d.stages.motion import MotionOptions
from recon4d.stages.poses import PosesOptions
from recon4d.stages.poses import run as run_poses
from recon4d.synthetic.room import BALL, CRATE
from recon4d.synthetic.scene import synthetic_scene
from recon4d.workspace import RECORD, Workspace

WIDTH, HEIGHT, COUNT = 128, 96, 8
TRIPOD = PosesOptions(source="static", camera="128,128,64,48", camera_model="pinhole")
STEP = 4  # pixels to the right per frame
ROWS, COLUMNS = (30, 58), (16, 44)  # of the square in the first frame


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def square(i: int) -> np.ndarray:
    """(H, W) bool: where the square is in a frame."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[slice(*ROWS), COLUMNS[0] + STEP * i : COLUMNS[1] + STEP * i] = True
    return mask


def drawn(moves: bool = True, count: int = COUNT) -> list[np.ndarray]:
    """Pictures of a wall, before which a painted square slides."""
    wall, paint = texture(1, HEIGHT, WIDTH), texture(2, ROWS[1] - ROWS[0], COLUMNS[1] - COLUMNS[0])
    pictures = []
    for i in range(count):
        picture = wall.copy()
        picture[square(i if moves else 0)] = paint.reshape(-1, 3)
        pictures.append(picture.astype(np.uint8))
    return pictures


def tripod(
    root: Path, pictures: list[np.ndarray], masks: list[np.ndarray] | None = None, names: list[str] | None = None
) -> Workspace:
    """A scene of a camera that stands still before a wall 4 units away."""
    workspace = workspace_with(root, pictures, masks=masks, names=names)
    run_poses(workspace, TRIPOD)

    def align(folder: Path) -> None:
        depth = np.full((HEIGHT, WIDTH), 4.0)
        for name in workspace.recording().names:
            write_scene_depth(folder / f"{name}.npz", SceneDepth(depth, depth > 0, 0.01 * depth, np.zeros_like(depth)))

    publish(workspace, "align", align)
    return workspace


def found_masks(workspace: Workspace) -> list[np.ndarray]:
    return [workspace.motion(name).mask for name in workspace.trajectory().names]


def objects(workspace: Workspace) -> list[dict]:
    return json.loads((workspace.unit_dir("motion") / "objects.json").read_text())["objects"]


def files(workspace: Workspace) -> dict[str, bytes]:
    """Everything the stage has written but its record, by name."""
    folder = workspace.unit_dir("motion")
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if name != "stage.json"}


@pytest.fixture(scope="module")
def sliding(tmp_path_factory) -> Workspace:
    """The drawn clip, on which the stage has run with one worker."""
    workspace = tripod(tmp_path_factory.mktemp("sliding") / "scene", drawn())
    motion.run(workspace, MotionOptions(workers=1))
    return workspace


@pytest.fixture
def again(sliding, tmp_path) -> Workspace:
    """The same clip before the stage."""
    shutil.copytree(sliding.root, tmp_path / "again", ignore=shutil.ignore_patterns("motion"))
    return Workspace(tmp_path / "again")


# -- what it finds ---------------------------------------------------------------------------------------------------


def true_numbers(reconstructed, names) -> list[np.ndarray]:
    return [read_grey(reconstructed.clip.mask / f"{name}.png") for name in names]


def test_movers_of_the_synthetic_clip_are_found_and_the_room_is_not(reconstructed):
    workspace = Workspace(reconstructed.scene)
    names = workspace.trajectory().names
    found = [workspace.motion(name).object_id for name in names]
    true = true_numbers(reconstructed, names)
    everything = pooled_mask_scores([numbers > 0 for numbers in found], [numbers > 0 for numbers in true])
    assert everything.precision > 0.95
    assert everything.false_alarms < 0.002
    # The ball turns round in frame 16; before that it rolls, and the crate slides all the time.
    for number, frames, least in ((BALL, range(4, 16), 0.55), (CRATE, range(len(names)), 0.6)):
        of_it = np.concatenate([found[i][true[i] == number] for i in frames])
        own = np.bincount(of_it, minlength=2)[1:].argmax() + 1
        scores = pooled_mask_scores([found[i] == own for i in frames], [true[i] == number for i in frames])
        assert scores.iou > least
        assert scores.precision > 0.95  # one object is not two
    assert workspace.record("motion").summary["objects"] <= 5  # three, and pieces of the one that only stretches


def test_a_camera_on_a_tripod_sees_what_slides(sliding):
    scores = pooled_mask_scores(found_masks(sliding), [square(i) for i in range(COUNT)])
    assert scores.iou > 0.85
    assert scores.false_alarms < 0.01
    assert [item["id"] for item in objects(sliding)] == [1]
    assert objects(sliding)[0]["names"] == list(sliding.trajectory().names)


def test_nothing_moves_before_a_moving_camera(tmp_path):
    made = Made(tmp_path, scene=synthetic_scene(size=(160, 120), count=8, fps=8.0, movers=False))
    workspace = posed_scene(made, tmp_path / "scene")
    record = motion.run(workspace, MotionOptions())
    assert record.summary["objects"] == 0
    assert record.summary["moving_share"] == 0
    assert not any(mask.any() for mask in found_masks(workspace))
    assert objects(workspace) == []


def test_noise_of_a_still_scene_is_no_motion(tmp_path):
    chance = np.random.default_rng(0)
    pictures = [np.clip(picture + chance.normal(0, 4, picture.shape), 0, 255).astype(np.uint8) for picture in still()]
    workspace = tripod(tmp_path / "scene", pictures)
    assert motion.run(workspace, MotionOptions()).summary["objects"] == 0


def still() -> list[np.ndarray]:
    return drawn(moves=False)


# -- what it writes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["sliding", "reconstructed"])
def test_files_are_as_the_later_stages_expect_them(which, request):
    made = request.getfixturevalue(which)
    workspace = made if isinstance(made, Workspace) else Workspace(made.scene)
    folder, trajectory = workspace.unit_dir("motion"), workspace.trajectory()
    pixels = {}
    for view in trajectory:
        shape = view.camera.shape
        arrays = read_arrays(folder / f"{view.name}.npz")
        assert {key: (array.dtype, array.shape) for key, array in arrays.items()} == {
            "moving": (np.float32, shape),
            "flow_next": (np.float16, (*shape, 2)),
            "flow_prev": (np.float16, (*shape, 2)),
            "object_id": (np.uint16, shape),
        }
        assert arrays["moving"].min() >= 0
        assert arrays["moving"].max() <= 1
        assert (arrays["moving"][arrays["object_id"] > 0] > 0.5).all()
        assert (arrays["moving"][arrays["object_id"] == 0] <= 0.5).all()
        mask = read_grey(folder / "mask" / f"{view.name}.png")
        np.testing.assert_array_equal(mask, np.where(arrays["object_id"] > 0, 255, 0))
        for number, count in zip(*np.unique(arrays["object_id"], return_counts=True)):
            if number:
                pixels.setdefault(int(number), {})[view.name] = int(count)
        for key, name in (("flow_prev", trajectory.names[0]), ("flow_next", trajectory.names[-1])):
            known = np.isfinite(arrays[key]).all(axis=-1)
            assert known.any() == (view.name != name)
    told = {item["id"]: dict(zip(item["names"], item["pixels"])) for item in objects(workspace)}
    assert told == pixels
    assert list(told) == list(range(1, len(told) + 1))
    summary = workspace.record("motion").summary
    assert (summary["frames"], summary["objects"]) == (len(trajectory), len(told))
    total = sum(view.camera.width * view.camera.height for view in trajectory)
    moving = sum(sum(counts.values()) for counts in pixels.values())
    assert summary["moving_share"] == pytest.approx(moving / total, abs=1e-5)
    assert read_rgb(folder / "motion.png").std() > 5
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    assert left == {"mask"}


def test_flow_of_what_slides_is_its_step(sliding):
    names = sliding.trajectory().names
    for i in range(1, COUNT - 1):
        frame, inner = sliding.motion(names[i]), np.zeros((HEIGHT, WIDTH), dtype=bool)
        inner[ROWS[0] + 4 : ROWS[1] - 4, COLUMNS[0] + STEP * i + 4 : COLUMNS[1] + STEP * i - 4] = True
        far = np.ones_like(inner)
        far[:, COLUMNS[0] + STEP * (i - 1) - 8 : COLUMNS[1] + STEP * (i + 1) + 8] = False
        for flow, sign in ((frame.flow_next, 1), (frame.flow_prev, -1)):
            assert np.isfinite(flow[inner]).all(axis=-1).mean() > 0.9
            np.testing.assert_allclose(np.nanmedian(flow[inner], axis=0), [sign * STEP, 0], atol=0.2)
            np.testing.assert_allclose(np.nanmedian(flow[far], axis=0), 0, atol=0.1)


def test_number_of_workers_changes_no_bit(sliding, again):
    motion.run(again, MotionOptions(workers=2))
    assert again.record("motion").key == sliding.record("motion").key
    assert files(again) == files(sliding)


class Stopped(Exception):
    pass


class StopsIn(Silent):
    """Stops the stage when a bar has come to its middle."""

    def __init__(self, label: str) -> None:
        self._label = label

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0):
        with super().bar(label, total, done) as bar:
            left = total // 2 if label == self._label else -1

            def advance(*args) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Stopped
                bar.advance(*args)

            yield SimpleNamespace(advance=advance)


@pytest.mark.parametrize("label", ["looking for motion", "labelling", "following outlines"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bits(sliding, again, label):
    with pytest.raises(Stopped):
        motion.run(again, MotionOptions(workers=1), StopsIn(label))
    assert again.record("motion") is None
    motion.run(again, MotionOptions(workers=1))
    assert files(again) == files(sliding)


def test_a_run_killed_before_its_end_is_published_goes_on(sliding, again, monkeypatch):
    def killed(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("recon4d.view.motion_page.write_motion_page", killed)
        with pytest.raises(Stopped):
            motion.run(again, MotionOptions())
    motion.run(again, MotionOptions())
    assert files(again) == files(sliding)


# -- what it is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "masked"), [(COUNT, COUNT), (COUNT, 1), (2, 2), (1, 1)])
def test_what_the_user_masks_is_an_object_whatever_the_pictures_show(tmp_path, count, masked):
    mask, none = np.zeros((HEIGHT, WIDTH), dtype=np.uint8), np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[40:70, 30:80] = 255
    workspace = tripod(tmp_path / "scene", still()[:count], masks=[mask] * masked + [none] * (count - masked))
    assert motion.run(workspace, MotionOptions()).summary["objects"] == 1
    for name in workspace.trajectory().names[:masked]:
        numbers = workspace.motion(name).object_id
        assert (numbers[mask > 0] == 1).mean() > 0.95
        # Around it a frame alone shows nothing that stands still.
        assert (numbers[mask == 0] > 0).mean() < (0.02 if count > 1 else 0.06)
    assert masked <= len(objects(workspace)[0]["names"]) <= 2 * masked  # it stays for a while where nobody says so


def test_flow_of_the_user_is_taken(again, tmp_path):
    names = again.trajectory().names
    for k, (direction, sign) in enumerate((("next", 1), ("prev", -1))):
        (tmp_path / "flow" / direction).mkdir(parents=True)
        for i in range(COUNT - 1):
            flow = np.zeros((HEIGHT, WIDTH, 2), dtype=np.float32)
            flow[square(i + k)] = (sign * STEP, 0)
            write_flo(tmp_path / "flow" / direction / f"{names[i + k]}.flo", flow)
    motion.run(again, MotionOptions(flow=tmp_path / "flow"))
    scores = pooled_mask_scores(found_masks(again), [square(i) for i in range(COUNT)])
    assert scores.iou > 0.85
    for i in range(COUNT - 1):
        known = np.isfinite(flow := again.motion(names[i]).flow_next).all(axis=-1)
        expected = np.where(square(i)[..., None], (STEP, 0), 0)
        np.testing.assert_array_equal(flow[known], expected[known])
        # What the square hides next does not come back; all else is taken as it is.
        np.testing.assert_array_equal(~known, square(i + 1) & ~square(i))


def half_moving() -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of a red thing of which only the upper half moves, and (T, H, W) bool where the whole thing is."""
    wall, paint = texture(3, HEIGHT, WIDTH), texture(4, HEIGHT, WIDTH)
    wall[..., 0], paint[..., 0] = wall[..., 0] / 4, 230
    legs, pictures, masks = np.zeros((HEIGHT, WIDTH), dtype=bool), [], []
    legs[50:70, 20:90] = True
    for i in range(COUNT):
        picture, body = wall.copy(), np.zeros((HEIGHT, WIDTH), dtype=bool)
        left = 24 + STEP * i
        body[26:50, left : left + 30] = True
        picture[26:50, left : left + 30] = paint[26:50, 24:54]
        picture[legs] = paint[legs]
        pictures.append(picture.astype(np.uint8))
        masks.append(legs | body)
    return pictures, np.array(masks)


def test_a_segmentation_hints_that_the_rest_of_a_thing_moves_too(tmp_path):
    pictures, whole = half_moving()
    model = write_segmentation_model(tmp_path / "red.onnx", np.array([[1.0, 0, 0]]))
    workspace = tripod(tmp_path / "scene", pictures)
    recall = []
    for options in (MotionOptions(), MotionOptions(segmentation=model)):
        motion.run(workspace, options)
        scores = pooled_mask_scores(found_masks(workspace), list(whole))
        assert scores.precision > 0.9
        recall.append(scores.recall)
    assert recall[0] < 0.65
    assert recall[1] > 0.85


def test_what_a_segmentation_sets_apart_and_does_not_move_is_no_object(tmp_path):
    pictures, _ = half_moving()
    model = write_segmentation_model(tmp_path / "red.onnx", np.array([[1.0, 0, 0]]))
    workspace = tripod(tmp_path / "scene", pictures[:1] * COUNT)
    assert motion.run(workspace, MotionOptions(segmentation=model)).summary["objects"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 0.0}, "--motion.threshold is 0, more than 0"),
        ({"threshold": 1.0}, "--motion.threshold is 1, .*at most 0.99"),
        ({"max_size": 10}, "--motion.max-size is 10, at least 64"),
        ({"workers": 0}, "--motion.workers is 0, at least 1"),
        ({"flow": Path("nowhere")}, "there is no nowhere: check --motion.flow"),
        ({"segmentation": Path("nowhere.onnx")}, "there is no nowhere.onnx: check --motion.segmentation"),
    ],
)
def test_options_are_refused_with_one_sentence(again, change, words):
    with pytest.raises(OptionsError, match=words) as caught:
        motion.run(again, MotionOptions(**change))
    assert "\n" not in str(caught.value)
    assert again.record("motion") is None


def test_a_folder_without_flow_of_these_frames_is_refused(again, tmp_path):
    (tmp_path / "flow").mkdir()
    with pytest.raises(InputError, match="none of the 0 flow files"):
        motion.run(again, MotionOptions(flow=tmp_path / "flow"))


def test_a_model_with_weights_in_another_file_is_refused(again, tmp_path):
    one = {"picture": [1, 3, "h", "w"]}
    weights = {"w": np.ones((1, 3, 1, 1), dtype=np.float32)}
    out = {"out": [1, 1, "h", "w"]}
    model = write_onnx(tmp_path / "m.onnx", one, [("Conv", ["picture", "w"], ["out"], {})], weights, out, "w.bin")
    with pytest.raises(InputError, match="keeps weights in other files"):
        motion.run(again, MotionOptions(segmentation=model))
    assert again.record("motion") is None


def test_commas_and_spaces_in_the_names_of_frames(sliding, tmp_path):
    names = [f"a, wall,{i}" for i in range(COUNT)]
    workspace = tripod(tmp_path / "scene", drawn(), names=names)
    pipeline.record_options(workspace, pipeline.Options(), tmp_path / "photos")
    assert cli.main(["motion", str(workspace.root)]) == 0
    assert [item["names"] for item in objects(workspace)] == [names]
    for name, other in zip(names, sliding.trajectory().names):
        np.testing.assert_array_equal(workspace.motion(name).object_id, sliding.motion(other).object_id)


# -- short clips, and the second pass --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_clips_too_short_to_show_motion(tmp_path, count):
    workspace = tripod(tmp_path / "scene", drawn(count=count))
    record = motion.run(workspace, MotionOptions())
    assert record.summary["frames"] == count
    assert record.summary["objects"] == 0
    assert record.warnings == []
    names = workspace.trajectory().names
    first, last = workspace.motion(names[0]), workspace.motion(names[-1])
    assert np.isnan(first.flow_prev).all()
    assert np.isnan(last.flow_next).all()
    assert np.isfinite(first.flow_next).any() == (count == 2)
    assert not any(mask.any() for mask in found_masks(workspace))


def test_frames_far_apart_are_not_compared_and_that_is_said(tmp_path):
    made = Made(tmp_path, scene=synthetic_scene(size=(96, 72), count=4, fps=1.0))  # 13 degrees from frame to frame
    record = motion.run(posed_scene(made, tmp_path / "scene"), MotionOptions())
    assert record.summary["compared"] == record.summary["objects"] == 0
    assert ["cannot be told in 4 of 4 frames" in warning for warning in record.warnings] == [True]


def test_a_second_pass_is_suggested_once_much_moves(again, monkeypatch):
    monkeypatch.setattr(motion, "MUCH", 0.05)  # the square fills 6 % of the picture
    first, second = Listener(), Listener()
    motion.run(again, MotionOptions(), first)
    assert any("recon4d run --passes 2 finds the cameras without them" in text for text in first.said)
    record = again.record("poses")
    of_second_pass = replace(record, inputs={**record.inputs, "first_pass": "key"})
    (again.unit_dir("poses") / RECORD).write_text(json.dumps(asdict(of_second_pass)))
    motion.run(again, MotionOptions(threshold=0.45), second)
    assert not any("--passes" in text for text in second.said)


# -- real pictures ---------------------------------------------------------------------------------------------------


class Kitchen(Made):
    """The first frames of a recorded kitchen with rendered movers at half size, with their poses and depth."""

    def __init__(self, folder: Path, count: int) -> None:
        k = json.loads((folder / "intrinsics.json").read_text())
        # There the centre of the first pixel is (0, 0).
        camera = Camera(k["width"], k["height"], k["fx"], k["fy"], k["cx"] + 0.5, k["cy"] + 0.5).resized(320, 240)
        names = tuple(path.stem for path in sorted((folder / "color").iterdir())[:count])
        times, world_from_cam = read_tum(folder / "poses_tum.txt")
        self.scene = SimpleNamespace(camera=camera)
        self.frames = [
            SimpleNamespace(
                name=name,
                timestamp_s=float(times[i]),
                picture=cv2.resize(
                    read_rgb(folder / "color" / f"{name}.jpg"), (320, 240), interpolation=cv2.INTER_AREA
                ),
                depth=cv2.imread(str(folder / "depth" / f"{name}.png"), cv2.IMREAD_UNCHANGED)[::2, ::2] / 1000,
                object_id=read_grey(folder / "mask" / f"{name}.png")[::2, ::2],
            )
            for i, name in enumerate(names)
        ]
        poses = TRUTH_FROM_SCENE.inverse().apply_to_pose(world_from_cam.inverse()[np.arange(count)])
        self.trajectory = Trajectory(names, times[:count], poses, (camera,) * count, (PoseOrigin.IMPORTED,) * count)


def half(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA)


@pytest.mark.shared
def test_movers_in_a_real_kitchen(shared_data, tmp_path):
    made = Kitchen(shared_data / "data" / "dynamic_gt", 10)
    workspace = posed_scene(made, tmp_path / "scene", depth=lambda frame: (frame.depth, frame.depth > 0))
    motion.run(workspace, MotionOptions())
    scores = pooled_mask_scores(found_masks(workspace), [frame.object_id > 0 for frame in made.frames])
    assert scores.iou > 0.75
    assert scores.false_alarms < 0.005
    for number in (1, 2):  # the box and the ball
        found = [workspace.motion(frame.name).object_id == number for frame in made.frames]
        assert pooled_mask_scores(found, [frame.object_id == number for frame in made.frames]).iou > 0.7
    assert len(objects(workspace)) == 2
