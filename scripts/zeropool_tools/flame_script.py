# SPDX-License-Identifier: MIT
"""The style and the script inside a flamegraph: zoom, search, reset, and the two sides of a differential one.

Each <g> under #frames carries data-v="depth,start,weight[,start,weight]"; parents come before their children.
"""
STYLE = """
svg{font:11px ui-monospace,'DejaVu Sans Mono',monospace;max-width:100%}
.paper{fill:#fff}.title{font-size:15px;text-anchor:middle}.sub{text-anchor:middle;fill:#555}
#frames g{cursor:pointer}#frames text{pointer-events:none}#frames g:hover rect{stroke:#000;stroke-width:.6}
#frames .hit rect{fill:#e15bea}#frames .above{opacity:.45}.button{cursor:pointer;fill:#1a5fb4}.idle{opacity:.4}
#box input{font:12px ui-monospace,monospace;width:235px;padding:2px 5px;border:1px solid #888;background:#fff;color:#000}
"""
SCRIPT = r"""
(function () {
"use strict";
var PAD = 10, CHARACTER = 6.7, svg = document.documentElement;
// Within a page the script runs too; then the picture is the element that holds it.
if (document.currentScript && document.currentScript.closest) svg = document.currentScript.closest("svg") || svg;
function by(id) { return svg.querySelector("#" + id); }
var WIDTH = svg.viewBox.baseVal.width - 2 * PAD, unit = svg.dataset.unit, labels = svg.dataset.labels.split("|");
var side = Number(svg.dataset.side), pattern = null, box = by("box"), input = by("pattern"), stack = [];
var frames = Array.prototype.map.call(by("frames").children, function (g, i) {
  var v = g.dataset.v.split(",").map(Number), title = g.querySelector("title").textContent;
  var f = {g: g, rect: g.querySelector("rect"), text: g.querySelector("text"), depth: v[0], x: [v[1], v[3]],
           w: [v[2], v[4]], title: title, name: title.split("\n")[0], index: i, end: i};
  stack.length = f.depth;
  f.parent = f.depth ? stack[f.depth - 1] : null;
  stack[f.depth] = f;
  for (var p = f.parent; p; p = p.parent) p.end = i;
  g.addEventListener("click", function () { zoom(f); });
  g.addEventListener("mouseover", function () { info(f.title.replace("\n", ": ")); });
  g.addEventListener("mouseout", function () { info(""); });
  return f;
});
var root = frames[0], zoomed = root;

function info(text) { by("info").textContent = text || " "; }
function amount(w) {
  if (unit === "us") return (w / 1e6).toFixed(3) + " s";
  if (unit === "bytes") return (w / 1048576).toFixed(1) + " MiB";
  return w + " " + unit;
}
function place(f, x, w, above) {
  f.g.style.display = w < 0.1 ? "none" : "";
  f.g.classList.toggle("above", above);
  if (w < 0.1) return;
  f.rect.setAttribute("x", x.toFixed(1));
  f.rect.setAttribute("width", w.toFixed(1));
  var fits = Math.floor((w - 4) / CHARACTER);
  var label = fits < 3 ? "" : f.name.length <= fits ? f.name : f.name.slice(0, fits - 2) + "..";
  if (!f.text) {
    if (!label) return;
    f.text = document.createElementNS("http://www.w3.org/2000/svg", "text");
    f.text.setAttribute("y", Number(f.rect.getAttribute("y")) + 11.5);
    f.g.appendChild(f.text);
  }
  f.text.setAttribute("x", (x + 2).toFixed(1));
  f.text.textContent = label;
}
function draw() {
  while (zoomed.parent && !zoomed.w[side]) zoomed = zoomed.parent;
  var x0 = zoomed.x[side], w0 = zoomed.w[side] || 1;
  frames.forEach(function (f) {
    if (f.index >= zoomed.index && f.index <= zoomed.end)
      place(f, PAD + (f.x[side] - x0) / w0 * WIDTH, f.w[side] / w0 * WIDTH, false);
    else f.g.style.display = "none";
  });
  for (var p = zoomed.parent; p; p = p.parent) place(p, PAD, WIDTH, true);
  by("reset").classList.toggle("idle", zoomed === root);
  if (by("sides")) by("sides").querySelector("text").textContent = "widths: " + labels[side] + " (w)";
  search();
}
function pin() {
  // Where the window's upper and lower edge lie in the picture.
  var map = svg.getScreenCTM(), height = svg.viewBox.baseVal.height;
  if (!map || !map.d) return;
  var upper = Math.max(0, -map.f / map.d), lower = Math.min(height, (window.innerHeight - map.f) / map.d);
  by("head").setAttribute("transform", "translate(0," + Math.min(upper, height).toFixed(1) + ")");
  by("foot").setAttribute("transform", "translate(0," + Math.min(0, lower - height).toFixed(1) + ")");
}
function zoom(f) { zoomed = f; draw(); }
function search() {
  var sum = 0, covered = -1, hits = 0;
  frames.forEach(function (f) {
    var hit = pattern !== null && pattern.test(f.name);
    f.g.classList.toggle("hit", hit);
    // A match within a match counts once.
    if (hit && f.index >= zoomed.index && f.index <= zoomed.end) {
      hits++;
      if (f.index > covered) { sum += f.w[side]; covered = f.end; }
    }
  });
  by("matched").textContent = pattern === null ? " " :
    "matched: " + (100 * sum / (zoomed.w[side] || 1)).toFixed(1) + " % (" + amount(sum) + " in " + hits + " frames)";
}
function look() {
  pattern = null;
  if (input.value) {
    try { pattern = new RegExp(input.value, "i"); }
    catch (e) { pattern = new RegExp(input.value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i"); }
  }
  search();
}
function open() { box.style.display = ""; input.focus(); input.select(); }
function shut() { box.style.display = "none"; input.value = ""; input.blur(); look(); }
function turn() { side = 1 - side; draw(); }
input.addEventListener("input", look);
by("find").addEventListener("click", function () { if (box.style.display) open(); else shut(); });
by("reset").addEventListener("click", function () { zoom(root); });
if (by("sides")) by("sides").addEventListener("click", turn);
window.addEventListener("scroll", pin);
window.addEventListener("resize", pin);
window.addEventListener("load", function () {
  if (svg === document.documentElement) window.scrollTo(0, 1e9);  // the root is at the bottom
  pin();
});
pin();
window.addEventListener("keydown", function (e) {
  if ((e.ctrlKey || e.metaKey) && e.key === "f" || e.key === "F3") { e.preventDefault(); open(); }
  else if (e.key === "Escape") {
    // The first Escape ends the search, the next one the zoom.
    if (!box.style.display) shut(); else zoom(root);
  } else if (e.key === "w" && e.target !== input && by("sides")) turn();
});
}());
"""
