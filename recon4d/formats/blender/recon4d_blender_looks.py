"""Materials and geometry nodes for import_recon4d.py."""

import bpy
import numpy as np
from recon4d_blender_data import CONSTANT, animate, object_of

COLOURS = ("Col", "Color", "displayColor")  # as the readers of PLY, glTF and USD call them


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
    out, left = np.full(len(points), np.nan, dtype=np.float32), np.arange(len(points))
    low, side = (points.min(axis=0), np.ptp(points, axis=0).max()) if len(points) else (0.0, 0.0)
    for level in range(11, 3, -1):
        cell = side / 2**level
        if not len(left) or cell <= 0:
            break
        x, y, z = np.floor((points[left] - low) / cell).astype(np.int64).T
        _, inverse, counts = np.unique((x << 42) + (y << 21) + z, return_inverse=True, return_counts=True)
        counts = counts[inverse.ravel()]
        good = counts >= 4
        out[left[good]] = cell / np.sqrt(counts[good])
        left = left[~good]
    known = np.isfinite(out)
    # A point on its own stays small: a large one would hide what is behind it.
    return np.where(known, out, np.median(out[known]) if known.any() else max(float(side), 1e-2) / 100)


def set_radius(data, points):
    """The attribute `radius`: half the diagonal of the square that a point stands for."""
    attribute = data.attributes.get("radius") or data.attributes.new("radius", "FLOAT", "POINT")
    attribute.data.foreach_set("value", (0.5**0.5 * spacing(points)).astype(np.float32))
