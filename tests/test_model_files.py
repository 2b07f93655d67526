"""Models by path and by id: what may go to the hub, what of its cache is a whole model, what is downloaded."""

import huggingface_hub
import pytest

from recon4d.depth import model_files
from recon4d.depth.depthcrafter_model import BASE_FILES, UNET_FILES
from recon4d.depth.model_files import Wanted, check_model, find_model
from recon4d.depth.transformers_depth import FILES
from recon4d.errors import InputError

REVISION = "0123456789abcdef0123456789abcdef01234567"
BASE = (
    *("model_index.json", "scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json"),
    *("vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"),
    *("image_encoder/config.json", "image_encoder/model.safetensors", "image_encoder/model.fp16.safetensors"),
    *("unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "svd_xt.safetensors"),
    *("README.md", "LICENSE"),
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of its own, and a hub whose repositories hold what is put under ``there``."""
    there, fetched, download = {}, [], huggingface_hub.snapshot_download

    def snapshot(local_files_only=False, **how):
        if local_files_only:
            return download(**how, local_files_only=True, cache_dir=tmp_path)
        fetched.extend(how["allow_patterns"])
        return str(cached(*how["allow_patterns"]))

    def cached(*names):
        folder = tmp_path / "models--someone--net"
        for name in (f"snapshots/{REVISION}/{name}" for name in names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(REVISION)
        return folder / "snapshots" / REVISION

    def listed(repo_id, revision):
        if repo_id not in there:
            raise ConnectionError("no such repository, or no network")
        return list(there[repo_id])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", listed)
    return there, cached, fetched


def test_a_cache_that_holds_a_part_of_a_model_is_not_taken_for_the_model(hub):
    there, cached, fetched = hub
    cached("unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "svd_xt.safetensors")
    with pytest.raises(InputError, match=r"not as a whole in the cache .* cannot be downloaded"):
        find_model("someone/net", BASE_FILES)
    there["someone/net"] = BASE
    assert find_model("someone/net", BASE_FILES).identity == f"someone/net@{REVISION}"
    assert fetched
    there.clear()  # no network: it is all there now
    assert find_model("someone/net@main", BASE_FILES).place.name == REVISION


def test_one_precision_is_downloaded_and_no_weights_that_nothing_reads(hub):
    there, _, fetched = hub
    there["someone/net"] = BASE
    find_model("someone/net", BASE_FILES)
    assert [name for name in fetched if name.endswith(".safetensors")] == [
        "image_encoder/model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert {"README.md", "LICENSE*"} < set(fetched)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("config.json", "diffusion_pytorch_model.safetensors"), UNET_FILES),
        (("config.json", "preprocessor_config.json", "model.safetensors", "model.fp16.safetensors"), FILES),
        (("config.json", "preprocessor_config.json", *(f"model-{n:05d}-of-00002.safetensors" for n in (1, 2))), FILES),
    ],
)
def test_what_lies_in_the_cache_is_enough(hub, names, wanted):
    hub[1](*names)
    assert find_model("someone/net", wanted).place.is_dir()


def test_a_missing_shard_is_missed(hub):
    hub[1]("config.json", "preprocessor_config.json", "model-00001-of-00002.safetensors")
    with pytest.raises(InputError, match="cannot be downloaded"):
        find_model("someone/net", FILES)


def test_a_model_of_the_hub_without_safetensors_is_refused_before_the_download(hub):
    there, _, fetched = hub
    there["someone/net"] = ("config.json", "preprocessor_config.json", "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has no model\.safetensors or model-\*\.safetensors, and weights in other"):
        find_model("someone/net", FILES)
    assert not fetched


@pytest.mark.parametrize(
    "text",
    ["./dav2", "../dav2", "a--b/c", "x/y-", "a/b.git", "a/b@../c", "a/b/c", "/a/b", "net", "a/.b", "é/b", "a/b@"],
)
def test_what_cannot_be_an_id_of_the_hub_is_a_path_that_is_not_there(hub, text):
    with pytest.raises(InputError, match="was not found: correct the path"):
        check_model(text)


def test_a_mistyped_folder_does_not_reach_the_hub(hub, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"the folder models here has no dav2: .* models/dav2@main"):
        check_model("models/dav2")
    check_model("models/dav2@main")


@pytest.mark.parametrize("revision", ["nothing", "refs/pr/1", "refs"])
def test_a_revision_that_is_not_there_is_said(hub, revision):
    hub[1]("config.json")
    with pytest.raises(InputError, match="no such repository"):
        find_model(f"someone/net@{revision}", UNET_FILES)


def test_the_card_and_the_other_precision_do_not_change_what_a_folder_is(tmp_path):
    for name in BASE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = find_model(str(tmp_path), BASE_FILES).identity
    for name in ("README.md", "LICENSE", "vae/diffusion_pytorch_model.safetensors"):
        (tmp_path / name).write_text("another text")
    assert find_model(str(tmp_path), BASE_FILES).identity == before
    (tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors").write_text("other weights")
    assert find_model(str(tmp_path), BASE_FILES).identity != before


def test_a_star_stays_within_a_name():
    chosen, lacking = model_files._chosen(["a.bin", "deep/b.bin"], Wanted((("*.bin",), ("deep/*.txt",))))
    assert (chosen, lacking) == (["a.bin"], [("deep/*.txt",)])
