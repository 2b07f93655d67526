"""Which frames are compared: neighbours in time, everything with everything, and places seen again.

No vocabulary file is needed for the last: the clip's own features are clustered to visual words, and frames are
compared by their words (Sivic and Zisserman, "Video Google", ICCV 2003), as COLMAP does with a learned vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WORDS = 1024
FEATURES_PER_FRAME = 1000  # the largest ones: they are seen again from other distances
TRAINING_FEATURES = 40_000
ROUNDS = 8
CANDIDATES_PER_FRAME = 3
# A candidate must be this far on the way from frames of the clip that are merely far apart (0) to frames `overlap`
# apart (1). Geometric verification has the last word, so be generous.
LEAST_LIKENESS = 0.35


def sequential_pairs(count: int, overlap: int) -> list[tuple[int, int]]:
    """Each frame with its next ``overlap`` frames, and with those 2, 4, 8, ... 2^overlap ahead, as COLMAP does."""
    steps = sorted(set(range(1, overlap + 1)) | {2**power for power in range(min(overlap, 20))})
    return [(i, i + step) for i in range(count) for step in steps if i + step < count]


def all_pairs(count: int) -> list[tuple[int, int]]:
    """Every frame with every other."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def loop_pairs(descriptors: Sequence[np.ndarray], overlap: int, seed: int) -> list[tuple[int, int]]:
    """Pairs far apart in time that look alike.

    Args:
        descriptors: per frame (K, 128) uint8, the largest features first; may be a lazy sequence.
        overlap: frames up to this far apart are compared anyway.
        seed: for the choice of the first cluster centres.
    """
    count = len(descriptors)
    if count <= 2 * overlap:
        return []
    words = cluster(training_set(descriptors), WORDS, seed)
    if words is None:
        return []
    similarity = word_similarity(descriptors, words)
    return candidates(similarity, overlap)


def training_set(descriptors: Sequence[np.ndarray]) -> np.ndarray:
    """(M, 128) float32 descriptors spread evenly over the clip, at most `TRAINING_FEATURES`."""
    frames = np.unique(np.linspace(0, len(descriptors) - 1, 200).astype(int))
    share = max(1, TRAINING_FEATURES // len(frames))
    return np.concatenate([descriptors[i][:share] for i in frames]).astype(np.float32)


def cluster(data: np.ndarray, count: int, seed: int) -> np.ndarray | None:
    """(count, D) cluster centres of data (M, D) by Lloyd's rounds; None when there is too little data."""
    if len(data) < 4 * count:
        return None
    centres = data[np.random.default_rng(seed).choice(len(data), count, replace=False)].copy()
    for _ in range(ROUNDS):
        nearest = nearest_rows(data, centres)
        size = np.bincount(nearest, minlength=count)
        order = np.argsort(nearest, kind="stable")
        first = np.cumsum(size) - size
        filled = size > 0
        sums = np.add.reduceat(data[order], first[filled], axis=0)
        centres[filled] = sums / size[filled, None]
    return centres


def nearest_rows(data: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(M,) index of the centre nearest to each row of data (M, D)."""
    half_norm = 0.5 * np.einsum("kd,kd->k", centres, centres)
    blocks = [np.argmax(data[a : a + 8192] @ centres.T - half_norm, axis=1) for a in range(0, len(data), 8192)]
    return np.concatenate([*blocks, np.zeros(0, dtype=np.int64)])


def word_similarity(descriptors: Sequence[np.ndarray], words: np.ndarray) -> np.ndarray:
    """(N, N) float32 cosine between the tf-idf word vectors of the frames; a row of zeros for an empty frame."""
    counts = np.zeros((len(descriptors), len(words)), dtype=np.float32)
    for row, of_frame in enumerate(descriptors):
        nearest = nearest_rows(of_frame[:FEATURES_PER_FRAME].astype(np.float32), words)
        counts[row] = np.bincount(nearest, minlength=len(words))
    rarity = np.log(len(counts) / np.maximum((counts > 0).sum(axis=0), 1))
    weighted = np.sqrt(counts) * rarity  # the root keeps repeated texture from deciding
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    return weighted @ weighted.T


def candidates(similarity: np.ndarray, overlap: int) -> list[tuple[int, int]]:
    """The most similar frames further than twice the overlap from each frame, no two of them close together."""
    count = len(similarity)
    index = np.arange(count)
    far_apart = similarity[np.abs(index[:, None] - index) > 2 * overlap]
    strange, usual = np.median(far_apart), np.median(np.diagonal(similarity, overlap))
    least = max(strange + LEAST_LIKENESS * (usual - strange), 1e-6)
    found = set()
    for i in range(count):
        score = np.where(np.abs(index - i) > 2 * overlap, similarity[i], -1.0)
        for _ in range(CANDIDATES_PER_FRAME):
            j = int(np.argmax(score))
            if score[j] < least:
                break
            found.add((min(i, j), max(i, j)))
            score[max(0, j - overlap // 2) : j + overlap // 2 + 1] = -1.0
    return sorted(found)
