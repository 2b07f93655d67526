"""Terms of models: the table, what lies beside a model, and what doctor says."""

import sys
from types import SimpleNamespace

import pytest

from recon4d import doctor
from recon4d.depth.model_terms import KNOWN, USUAL, terms_of
from recon4d.scene.depth import DepthKind


@pytest.mark.parametrize(
    ("identity", "licence", "commercial"),
    [
        ("tencent/DepthCrafter", "academic and research use only", False),
        ("tencent/depthcrafter@f2207fa", "academic and research use only", False),
        ("stabilityai/stable-video-diffusion-img2vid-xt", "Stability AI Community License", None),
        ("depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0", True),
        ("depth-anything/Depth-Anything-V2-Large-hf", "CC-BY-NC-4.0", False),
        ("depth-anything/Depth-Anything-V2-Metric-Outdoor-Base-hf", "CC-BY-NC-4.0", False),
        ("depth-anything/Metric-Video-Depth-Anything-Small", "Apache-2.0", True),
        ("depth-anything/Video-Depth-Anything-Large", "CC-BY-NC-4.0", False),
        ("Intel/zoedepth-nyu-kitti", "MIT", True),
        ("apple/DepthPro-hf", "Apple Machine Learning Research Model License (apple-amlr)", False),
        ("somebody/something", "licence not known", None),
    ],
)
def test_known_models(identity, licence, commercial):
    terms = terms_of(identity)
    assert (terms.licence, terms.commercial_use) == (licence, commercial)
    assert terms.record()["model"] == identity
    assert licence in terms.sentence()


def test_metric_models_of_a_family_give_metres():
    assert terms_of("depth-anything/Depth-Anything-V2-Small-hf").kind is DepthKind.AFFINE_DISPARITY
    assert terms_of("depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf").kind is DepthKind.METRIC_Z


@pytest.mark.parametrize(
    ("file", "text", "licence", "commercial"),
    [
        ("README.md", "---\ntags:\n- depth\nlicense: cc-by-nc-sa-4.0\n---\n# x", "cc-by-nc-sa-4.0", False),
        ("README.md", "---\nlicense: 'mit'\n---\n", "mit", True),
        ("README.md", "---\nlicense: other\nlicense_name: own-license\n---\n", "own-license", None),
        ("README.md", "# no head\nlicense: mit\n", "licence not known", None),
        ("LICENSE", "MIT License\n\nCopyright (c) 2021 Somebody", "MIT, as its LICENSE file says", None),
        ("LICENSE.txt", "\n   Apache License\n   Version 2.0,\n", "Apache-2.0, as its LICENSE file says", None),
        ("LICENSE", "Code: MIT License. Weights: CC-BY-NC 4.0.", "CC-BY-NC, as its LICENSE file says", False),
        ("LICENSE", "Only for academic purposes.", "for research only, as its LICENSE file says", False),
        ("LICENSE", "All rights are mine.", "see LICENSE beside the model", None),
        ("README.md", b"\xff\xfe---\xff", "licence not known", None),
    ],
)
def test_files_beside_a_model_tell(tmp_path, file, text, licence, commercial):
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    terms = terms_of("model", tmp_path)
    assert (terms.licence, terms.commercial_use) == (licence, commercial)


def test_the_licence_of_a_project_is_not_taken_for_that_of_a_file_in_it(tmp_path):
    (tmp_path / "LICENSE").write_text("MIT License")
    terms = terms_of("net.onnx", tmp_path / "net.onnx")
    assert (terms.licence, terms.commercial_use) == ("licence not known", None)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert terms_of("net.onnx", tmp_path / "net.onnx").commercial_use is False


def test_one_restricted_licence_of_several_files_counts(tmp_path):
    (tmp_path / "LICENSE").write_text("MIT License")
    (tmp_path / "LICENSE-WEIGHTS").write_text("Attribution-NonCommercial 4.0")
    assert terms_of("model", tmp_path).commercial_use is False


def test_the_head_of_a_card_goes_before_a_licence_file(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (tmp_path / "LICENSE").write_text("MIT License")
    assert terms_of("model", tmp_path).commercial_use is False


def test_the_usual_models_are_in_the_table():
    assert all(terms_of(name).licence != "licence not known" for name in USUAL)
    assert all(terms.link for terms in KNOWN)


def test_doctor_takes_another_build_of_a_package(monkeypatch):
    """As onnxruntime-gpu in place of onnxruntime: the same module of another distribution."""
    module = SimpleNamespace(__version__="9.8.7")
    monkeypatch.setitem(sys.modules, "of_another_build", module)
    package = doctor.Package("not-installed", "of_another_build", "a test", "MIT", "pip install not-installed")
    line, fine = doctor._check(package)
    assert fine
    assert line.split()[:3] == ["ok", "not-installed", "9.8.7"]


def test_doctor_says_which_weights_are_here_and_under_which_terms(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--Intel--dpt-large" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    lines = {line.split()[1]: line.split()[0] for line in doctor.depth_models()}
    assert set(lines) == set(USUAL)
    assert set(lines.values()) == {"--"}
    (snapshot / "model.safetensors").touch()
    (found,) = (line for line in doctor.depth_models() if line.split()[0] == "ok")
    assert "Intel/dpt-large" in found
    assert "Apache-2.0" in found


@pytest.mark.shared
def test_terms_of_the_models_of_the_test_data(shared_data):
    folder = shared_data / "models" / "tcmonodepth_small"
    assert terms_of("tcmonodepth_small", folder).licence == "MIT, as its LICENSE file says"
    assert terms_of("net.onnx", folder / "tcmonodepth_tcsmallnet_192x320.onnx").licence == "licence not known"
