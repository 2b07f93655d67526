"""Materials and geometry nodes for import_recon4d.py."""

import bpy
import numpy as np
from recon4d_blender_data import CONSTANT, animate, object_of

COLOURS = ("Col", "Color", "displayColor")  # as the readers of PLY, glTF and USD call them
SLANT = 1.2  # a surface that lies aslant in a cube is larger than its side; from the distance of fourth neighbours
ALONE = 1.5  # a point is drawn at most so many times as large as the denser ones near it
LARGEST = 4.0  # and so many times as large as half of all points


class Looks:
    """The materials and node groups of a clip: one of each per colour attribute, made at first use."""

    def __init__(self, title, size):
        self.title, self.size, self.made = title, size, {}

    def material(self, attribute):
        if attribute not in self.made:
            self.made[attribute] = glowing_material(f"{self.title} {attribute}", attribute)
        return self.made[attribute]

    def points(self, attribute):
        key = f"points {attribute}"
        if key not in self.made:
            self.made[key] = points_group(f"{self.title} {key}", self.material(attribute), self.size)
        return self.made[key]

    def dress(self, item):
        """Give an object its colours, and size where it has points; one without colours keeps what it wears."""
        attribute = colours_of(item)
        if attribute is None:
            return
        if is_surface(item):
            item.data.materials.clear()
            item.data.materials.append(self.material(attribute))
        else:
            add_nodes(item, self.points(attribute))


def colours_of(item):
    return next((name for name in COLOURS if name in item.data.attributes), None)


def is_surface(item):
    return item.type == "MESH" and len(item.data.polygons) > 0


def add_nodes(item, group):
    item.modifiers.new(group.name, "NODES").node_group = group


def glowing_material(title, attribute):
    """A material that gives off the recorded colour; light falls on it in vain."""
    material = bpy.data.materials.new(title)
    if material.node_tree is None:
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    colour, glow, output = (nodes.new(f"ShaderNode{kind}") for kind in ("Attribute", "Emission", "OutputMaterial"))
    colour.attribute_name = attribute
    links.new(colour.outputs["Color"], glow.inputs["Color"])
    links.new(glow.outputs["Emission"], output.inputs["Surface"])
    if hasattr(material, "cycles"):
        material.cycles.emission_sampling = "NONE"  # it lights nothing: Cycles need not treat triangles as lamps
    return material


def new_group(title):
    group = bpy.data.node_groups.new(title, "GeometryNodeTree")
    group.is_modifier = True
    group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    return group, group.nodes.new("NodeGroupInput"), group.nodes.new("NodeGroupOutput")


def add_size(group, size):
    socket = group.interface.new_socket("Point Size", in_out="INPUT", socket_type="NodeSocketFloat")
    socket.default_value, socket.min_value = size, 0.0


def points_group(title, material, size):
    """Vertices and points become points as wide as their attribute `radius` says, in their colours."""
    group, start, end = new_group(title)
    add_size(group, size)
    kinds = ("SeparateComponents", "MeshToPoints", "JoinGeometry", "InputNamedAttribute", "SetPointRadius")
    parts, points, join, radius, widen = (group.nodes.new(f"GeometryNode{kind}") for kind in kinds)
    paint, times = group.nodes.new("GeometryNodeSetMaterial"), group.nodes.new("ShaderNodeMath")
    times.operation = "MULTIPLY"
    radius.inputs["Name"].default_value = "radius"
    paint.inputs["Material"].default_value = material
    for source, target in (
        (start.outputs["Geometry"], parts.inputs[0]),
        (parts.outputs["Mesh"], points.inputs["Mesh"]),
        (radius.outputs[0], points.inputs["Radius"]),  # or the points would get a `radius` of their own
        (points.outputs[0], join.inputs[0]),
        (parts.outputs["Point Cloud"], join.inputs[0]),
        (join.outputs[0], widen.inputs[0]),
        (radius.outputs[0], times.inputs[0]),
        (start.outputs["Point Size"], times.inputs[1]),
        (times.outputs[0], widen.inputs["Radius"]),
        (widen.outputs[0], paint.inputs["Geometry"]),
        (paint.outputs[0], end.inputs[0]),
    ):
        group.links.new(source, target)
    return group


def play(title, keys, looks, collection):
    """An object that shows one of many: the one of the last key, or nothing.

    A switch between objects with one animated number. For 300 frames of 50,000 points this took a quarter of the time
    of animated visibility for each playback step, and a third of the memory of nodes that read PLY files.

    Args:
        keys: (Blender's frame, object or None) in the order of time.
        looks: for the points; surfaces are dressed already.
    """
    items = [item for _, item in keys if item is not None]
    if not items:
        return None
    group, start, end = new_group(title)
    number, switch, get = (
        group.nodes.new(kind) for kind in ("FunctionNodeInputInt", "GeometryNodeIndexSwitch", "GeometryNodeObjectInfo")
    )
    number.name = number.label = "Shown"
    switch.data_type = "OBJECT"
    while len(switch.index_switch_items) < len(items) + 1:
        switch.index_switch_items.new()
    for place, item in enumerate(items, start=1):  # place 0 stays empty
        switch.inputs[place + 1].default_value = item
    group.links.new(number.outputs[0], switch.inputs[0])
    group.links.new(switch.outputs[0], get.inputs["Object"])
    shown = get.outputs["Geometry"]
    if not any(map(is_surface, items)):
        add_size(group, looks.size)
        points = group.nodes.new("GeometryNodeGroup")
        points.node_tree = looks.points(colours_of(items[0]))
        group.links.new(shown, points.inputs["Geometry"])
        group.links.new(start.outputs["Point Size"], points.inputs["Point Size"])
        shown = points.outputs["Geometry"]
    group.links.new(shown, end.inputs[0])
    places = {item: place for place, item in enumerate(items, start=1)}
    number.integer = 0
    animate(number, "integer", [frame for frame, _ in keys], [places.get(item, 0) for _, item in keys], CONSTANT)
    player = object_of(title, bpy.data.meshes.new(title), collection)
    add_nodes(player, group)
    return player


def spacing(points):
    """(N,) float32 distance to the neighbours, from cubes that grow until they hold 4 points of a surface."""
    out, side = (
        np.full(len(points), np.nan, dtype=np.float32),
        float(np.ptp(points, axis=0).max()) if len(points) else 0,
    )
    # The first cubes are half as wide as the spacing of as many points on a square.
    for level in range(1 + max(2, round(np.log2(len(points) + 1) / 2)), 0, -1):
        cell, unknown = side / 2**level, np.isnan(out)
        if cell <= 0 or unknown.mean() < 0.01:  # the last few are far from all others
            break
        x, y, z = np.floor((points - points.min(axis=0)) / np.float32(cell)).astype(np.int64).T
        _, inverse, counts = np.unique((x << 42) + (y << 21) + z, return_inverse=True, return_counts=True)
        inverse = inverse.ravel()
        good = unknown & (counts[inverse] >= 4)
        # Where others in the cube are denser, a point is hardly larger than they: it would stick out as a ball.
        known = np.bincount(inverse[~unknown], minlength=len(counts))
        others = np.bincount(inverse[~unknown], out[~unknown], minlength=len(counts)) / np.maximum(known, 1)
        most = np.where(known > 0, ALONE * others, np.inf)
        out[good] = np.minimum(SLANT * cell / np.sqrt(counts), most)[inverse[good]]
    known = np.isfinite(out)
    usual = np.median(out[known]) if known.any() else max(side, 1e-2) / 100
    # A point far from all others stays small: a large one would hide what is behind it.
    return np.minimum(np.where(known, out, usual), LARGEST * usual)


def set_radius(data, points):
    """The attribute `radius`: half the diagonal of the square that a point stands for."""
    attribute = data.attributes.get("radius") or data.attributes.new("radius", "FLOAT", "POINT")
    attribute.data.foreach_set("value", (0.5**0.5 * spacing(points)).astype(np.float32))
