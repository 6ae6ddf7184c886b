# SPDX-License-Identifier: MIT
"""Flamegraphs: the picture itself, and in a headless browser that zoom, search, reset and the two sides of a diff work."""
import os
import re
import unittest
import xml.etree.ElementTree

import browser
import support

from zeropool_tools import flame

CTRL, ESCAPE = "\ue009", "\ue00c"
BEFORE = {("prog", "main", "work", "asm_exc_page_fault_[k]"): 600_000, ("prog", "main", "work"): 200_000,
          ("prog", "main", "free", "munmap_[k]"): 200_000}
AFTER = {("prog", "main", "work"): 200_000, ("prog", "main", "zp_free"): 50_000}
FIND = "return [...document.querySelectorAll('#frames > g')].find(g => g.querySelector('title').textContent.split('\\n')[0] === arguments[0])"


class Picture(unittest.TestCase):
    def test_self_contained_and_well_formed(self):
        text = flame.svg(BEFORE, "a <title> & more", "us")
        root = xml.etree.ElementTree.fromstring(text)
        self.assertTrue(root.tag.endswith("svg"))
        self.assertNotRegex(text.replace("http://www.w3.org/", ""), r"https?:|href=|src=")
        self.assertIn("a &lt;title&gt; &amp; more", text)

    def test_widths_are_shares(self):
        text = flame.svg(BEFORE, "t", "us")
        widths = dict(re.findall(r"<title>(\w+|asm_exc_page_fault_\[k\])\n.*?width=\"([\d.]+)\"", text, re.S))
        self.assertAlmostEqual(float(widths["main"]), 1180, delta=0.2)
        self.assertAlmostEqual(float(widths["work"]), 1180 * 0.8, delta=0.2)
        self.assertAlmostEqual(float(widths["asm_exc_page_fault_[k]"]), 1180 * 0.6, delta=0.2)

    def test_difference_colours(self):
        text = flame.svg(BEFORE, "t", "us", other=AFTER, labels=("glibc", "zeropool"))
        colours = {name: fill for name, fill in re.findall(r"<title>([^\n]+)\n[^<]*</title><rect[^>]*fill=\"(#\w+)\"", text)}
        self.assertTrue(colours["asm_exc_page_fault_[k]"].endswith("f5"))  # blue: less
        self.assertTrue(colours["zp_free"].startswith("#f5"))  # red: more
        self.assertIn("glibc 0.600 s (60.0 %), zeropool 0.000 s (0.0 %): -0.600 s", text)

    def test_small_frames_are_left_out(self):
        stacks = {("p", f"f{i}"): 1 for i in range(5000)}
        self.assertLess(len(flame.svg(stacks, "t", min_share=0.001)), 20_000)

    def test_empty_and_odd(self):
        xml.etree.ElementTree.fromstring(flame.svg({}, "nothing"))
        xml.etree.ElementTree.fromstring(flame.svg({("a", "operator<< <T&>(x) ]]> \x01"): 3}, "t"))


@unittest.skipIf(browser.missing(), browser.missing())
class InBrowser(support.Case):
    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser().__enter__()
        cls.addClassCleanup(cls.browser.__exit__)

    def show(self, **more):
        path = os.path.join(self.folder(), "flamegraph.svg")
        self.write(path, flame.svg(BEFORE, "test", "us", "a subtitle", **more))
        self.browser.open(path)

    def frame(self, name):
        return self.browser.run(FIND, name)

    def state(self, name):
        """(drawn, width, faded) of a frame."""
        return self.browser.run("var g = arguments[0]; return [g.style.display !== 'none', +g.querySelector('rect').getAttribute('width'),"
                                " g.classList.contains('above')]", self.frame(name))

    def text(self, name):
        return self.browser.run("return document.getElementById(arguments[0]).textContent", name)

    def shown(self, name):
        return self.browser.run("return document.getElementById(arguments[0]).style.display !== 'none'", name)

    def idle(self):
        return self.browser.run("return document.getElementById('reset').classList.contains('idle')")

    def test_zoom_and_reset(self):
        self.show()
        self.assertTrue(self.idle())
        self.browser.click(self.frame("free"))
        self.assertEqual(self.state("free"), [True, 1180, False])
        self.assertEqual(self.state("main"), [True, 1180, True])
        self.assertFalse(self.state("work")[0])
        self.assertFalse(self.idle())
        self.browser.click(self.browser.run("return document.getElementById('reset').firstChild"))
        self.assertAlmostEqual(self.state("work")[1], 1180 * 0.8, delta=0.2)
        self.assertTrue(self.idle())
        self.browser.click(self.frame("work"))
        self.browser.keys((ESCAPE,))
        self.assertTrue(self.idle())

    def test_search(self):
        self.show()
        self.assertFalse(self.shown("box"))
        self.browser.keys((CTRL, "f"))
        self.assertTrue(self.shown("box"))
        self.browser.keys(*((c,) for c in "PAGE_f"))
        self.assertEqual(self.text("matched"), "matched: 60.0 % (0.600 s in 1 frames)")
        self.assertEqual(self.browser.run("return document.querySelectorAll('.hit').length"), 1)
        self.browser.keys((CTRL, "a"), *((c,) for c in "main|fault"))
        self.assertTrue(self.text("matched").startswith("matched: 100.0 % (1.000 s"), "a match within a match counts once")
        self.browser.keys((CTRL, "a"), *((c,) for c in "fault_["))  # no regular expression: taken literally
        self.assertTrue(self.text("matched").startswith("matched: 60.0 %"))
        self.browser.click(self.frame("work"))
        self.assertTrue(self.text("matched").startswith("matched: 75.0 %"), "the share is of what is shown")
        self.browser.keys((ESCAPE,))
        self.assertEqual((self.text("matched"), self.shown("box")), (" ", False))
        self.assertEqual(self.browser.run("return document.querySelectorAll('.hit').length"), 0)

    def test_tall_programs(self):
        """Two hundred frames deep: the root is in view at first, and what is around the frames wherever one scrolls."""
        path = os.path.join(self.folder(), "tall.svg")
        self.write(path, flame.svg({("python3", *(f"frame{i}" for i in range(200))): 1000}, "tall", "us"))
        self.browser.open(path)
        in_view = ("var r = arguments[0].getBoundingClientRect(); return r.top >= 0 && r.bottom <= window.innerHeight && r.height > 0")
        part = "return document.getElementById(arguments[0])"
        self.assertGreater(self.browser.run("return document.documentElement.scrollHeight - window.innerHeight"), 1000)
        self.assertTrue(self.browser.run(in_view, self.frame("all")), "opens at the root")
        for place in (1e9, 0, 700):
            self.browser.run("window.scrollTo(0, arguments[0])", place)
            self.browser.run("window.dispatchEvent(new Event('scroll'))")
            for name in ("reset", "find", "foot"):
                self.assertTrue(self.browser.run(in_view, self.browser.run(part, name)), (place, name))
        self.browser.keys((CTRL, "f"))
        self.browser.keys(*((c,) for c in "frame7$"))
        self.assertTrue(self.browser.run(in_view, self.browser.run(part, "pattern")))
        self.assertTrue(self.browser.run(in_view, self.browser.run(part, "matched")))
        self.assertTrue(self.text("matched").startswith("matched: 100.0 %"))

    def test_both_sides_of_a_difference(self):
        self.show(other=AFTER, labels=("glibc", "zeropool"))
        self.assertFalse(self.state("zp_free")[0])
        self.assertAlmostEqual(self.state("work")[1], 1180 * 0.8, delta=0.2)
        self.browser.keys(("w",))
        self.assertIn("zeropool", self.text("sides"))
        self.assertAlmostEqual(self.state("zp_free")[1], 1180 * 0.2, delta=0.2)
        self.assertFalse(self.state("free")[0])
        self.browser.click(self.browser.run("return document.querySelector('#sides text')"))
        self.assertIn("glibc", self.text("sides"))
        self.assertAlmostEqual(self.state("free")[1], 1180 * 0.2, delta=0.2)


if __name__ == "__main__":
    unittest.main()
