"""What doctor knows of the packages that extras install."""

import re
from pathlib import Path

from recon4d import doctor


def test_doctor_knows_the_packages_of_every_extra():
    setup = (Path(__file__).parents[1] / "setup.py").read_text(encoding="utf-8")
    extras = setup[setup.index("EXTRAS = {") : setup.index('"dev": [')]
    wanted = set(re.findall(r'"([\w-]+)(?:\[\w+\])?>=', extras))
    assert {"usd-core", "laspy", "viser", "OpenEXR"} <= wanted
    known = {package.distribution: package for package in doctor.OPTIONAL}
    assert wanted <= set(known) | {package.distribution for package in doctor.REQUIRED}
    for name, extra in (("usd-core", "usd"), ("laspy", "las"), ("lazrs", "las"), ("viser", "viewer")):
        assert known[name].install == f"pip install 'recon4d[{extra}]'"
        assert doctor._check(known[name])[1]  # the development environment has them
