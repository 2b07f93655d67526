"""Rays against boxes, ellipsoids and upright cylinders, and the distance to them (numba kernels).

All solids are given in their own local frame, centred on the origin, by three half sizes; a ray is
``origin + t * direction`` with a direction of any length, so that t is z-depth when the direction has z = 1 in the
camera frame.
"""

from __future__ import annotations

import math

from numba import njit

BOX, ELLIPSOID, CYLINDER, ROOM = 0, 1, 2, 3  # ROOM: a box seen from inside; CYLINDER: axis z, radius hx, half height hz
MISS = math.inf


@njit(cache=True)
def hit_box(ox, oy, oz, dx, dy, dz, hx, hy, hz, inside):
    """Smallest t > 0 at which the ray enters the box (leaves it, if ``inside``), or MISS. Slab method."""
    near, far = -math.inf, math.inf
    for o, d, h in ((ox, dx, hx), (oy, dy, hy), (oz, dz, hz)):
        if d == 0.0:
            if abs(o) > h:
                return MISS
            continue
        a, b = (-h - o) / d, (h - o) / d
        near, far = max(near, min(a, b)), min(far, max(a, b))
    if near > far:
        return MISS
    t = far if inside else near
    return t if t > 0.0 else MISS


@njit(cache=True)
def hit_ellipsoid(ox, oy, oz, dx, dy, dz, hx, hy, hz):
    """Smallest t > 0 at which the ray enters the ellipsoid with radii (hx, hy, hz), or MISS."""
    px, py, pz, qx, qy, qz = ox / hx, oy / hy, oz / hz, dx / hx, dy / hy, dz / hz
    a = qx * qx + qy * qy + qz * qz
    b = px * qx + py * qy + pz * qz
    disc = b * b - a * (px * px + py * py + pz * pz - 1.0)
    if disc < 0.0:
        return MISS
    t = (-b - math.sqrt(disc)) / a
    return t if t > 0.0 else MISS


@njit(cache=True)
def hit_cylinder(ox, oy, oz, dx, dy, dz, radius, half):
    """Smallest t > 0 at which the ray enters the capped cylinder, or MISS."""
    near, far = -math.inf, math.inf
    if dz != 0.0:
        a, b = (-half - oz) / dz, (half - oz) / dz
        near, far = min(a, b), max(a, b)
    elif abs(oz) > half:
        return MISS
    a = dx * dx + dy * dy
    c = ox * ox + oy * oy - radius * radius
    if a == 0.0:
        if c > 0.0:
            return MISS
    else:
        b = ox * dx + oy * dy
        disc = b * b - a * c
        if disc < 0.0:
            return MISS
        root = math.sqrt(disc)
        near, far = max(near, (-b - root) / a), min(far, (-b + root) / a)
    return near if near <= far and near > 0.0 else MISS


@njit(cache=True)
def hit(kind, ox, oy, oz, dx, dy, dz, hx, hy, hz):
    """Smallest t > 0 at which the ray meets the solid's surface, or MISS."""
    if kind in (BOX, ROOM):
        return hit_box(ox, oy, oz, dx, dy, dz, hx, hy, hz, kind == ROOM)
    if kind == ELLIPSOID:
        return hit_ellipsoid(ox, oy, oz, dx, dy, dz, hx, hy, hz)
    return hit_cylinder(ox, oy, oz, dx, dy, dz, hx, hz)


@njit(cache=True)
def normal(kind, x, y, z, hx, hy, hz):
    """Unit normal (local frame) at a surface point, pointing to where the camera can be."""
    if kind == ELLIPSOID:
        gx, gy, gz = x / (hx * hx), y / (hy * hy), z / (hz * hz)
        length = math.sqrt(gx * gx + gy * gy + gz * gz)
        return gx / length, gy / length, gz / length
    if kind == CYLINDER:
        if abs(abs(z) - hz) < abs(math.sqrt(x * x + y * y) - hx):
            return 0.0, 0.0, math.copysign(1.0, z)
        return x / hx, y / hx, 0.0
    sign = -1.0 if kind == ROOM else 1.0
    ax, ay, az = abs(abs(x) - hx), abs(abs(y) - hy), abs(abs(z) - hz)
    if ax <= ay and ax <= az:
        return math.copysign(sign, x * sign), 0.0, 0.0
    if ay <= az:
        return 0.0, math.copysign(sign, y * sign), 0.0
    return 0.0, 0.0, math.copysign(sign, z * sign)


@njit(cache=True)
def distance(kind, x, y, z, hx, hy, hz):
    """Distance from a local point to the solid, negative inside (ellipsoid: first order, good near the surface)."""
    if kind == ROOM:
        return min(hx - abs(x), hy - abs(y), hz - abs(z))
    if kind == ELLIPSOID:
        k0 = math.sqrt((x / hx) ** 2 + (y / hy) ** 2 + (z / hz) ** 2)
        k1 = math.sqrt((x / hx**2) ** 2 + (y / hy**2) ** 2 + (z / hz**2) ** 2)
        return k0 * (k0 - 1.0) / k1 if k1 > 0.0 else -min(hx, hy, hz)
    if kind == CYLINDER:
        a, b = math.sqrt(x * x + y * y) - hx, abs(z) - hz
        return math.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2) + min(max(a, b), 0.0)
    a, b, c = abs(x) - hx, abs(y) - hy, abs(z) - hz
    outside = math.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2 + max(c, 0.0) ** 2)
    return outside + min(max(a, b, c), 0.0)
