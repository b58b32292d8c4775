// Elements, numbers with units, colours, the tooltip. Text goes into the page by textContent only.
const D = JSON.parse(document.getElementById("data").textContent);
const F = D.figures;
const $ = (id) => document.getElementById(id);
const el = (tag, cls, text) => {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
};
const add = (parent, ...children) => { for (const c of children) parent.append(c); return parent; };

const digits = (v) => v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
// A number does not part from its unit at the end of a line.
const nb = (f) => (...a) => f(...a).replace(/ /g, "\u00a0");
const fns = nb((ns) => {
  if (!isFinite(ns)) return "–";
  const a = Math.abs(ns);
  if (a < 1) return ns === 0 ? "0 µs" : "< 1 ns";
  if (a < 1e3) return Math.round(ns) + " ns";
  if (a < 999.5e3) return (a < 1e5 ? +(ns / 1e3).toPrecision(3) : Math.round(ns / 1e3)) + " µs";
  if (a < 999.5e6) return digits(ns / 1e6) + " ms";
  if (a < 120e9) return digits(ns / 1e9) + " s";
  const s = Math.round(ns / 1e9), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)} min` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)} h`;
});
const fbytes = nb((b) => {
  if (b < 1024) return Math.round(b) + " B";
  const u = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let i = -1;
  do { b /= 1024; i++; } while (b >= 1023.95 && i < 5);
  return (b < 99.95 ? b.toFixed(1) : b.toFixed(0)) + " " + u[i];
});
const fint = (n) => Math.round(n).toString().replace(/\B(?=(\d{3})+(?!\d))/g, "\u00a0");
const fcount = (n) => n >= 1e9 ? n / 1e9 + "\u00a0G" : n >= 1e6 ? n / 1e6 + "\u00a0M" : fint(n);
const fnum = (n) => n >= 1000 ? fint(n) : n >= 100 ? n.toFixed(0) : +n.toPrecision(3) + "";
const fpct = nb((x) => {
  const p = x * 100;
  return p === 0 ? "0 %" : p < 0.001 ? "< 0.001 %" : (p < 1 ? p.toPrecision(2) : p < 10 ? p.toFixed(2) : p.toFixed(1)) + " %";
});
const fhz = nb((h) => (h >= 100 ? h.toFixed(h % 1 ? 1 : 0) : +h.toPrecision(3)) + " Hz");
const fsec = (ns, span) => {
  const s = ns / 1e9, d = span === undefined ? 3 : span > 60e9 ? 1 : span > 2e9 ? 2 : span > 2e8 ? 3 : span > 2e6 ? 5 : 6;
  return s.toFixed(d) + " s";
};
const fhex = (n) => "0x" + n.toString(16);
const plural = (n, one, many) => fint(n) + " " + (n === 1 ? one : many || one + "s");
const shell = (a) => a !== "" && !/[\s']/.test(a) ? a : "'" + a.replace(/'/g, "'\\''") + "'";
// What a target named itself must not turn our line around or hide in it.
const tame = (t) => t.replace(/[\n\r\t]+/g, " ").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "\ufffd");

let colours = {};
const colour = (name) => colours[name] || (colours[name] = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;

const tip = $("tip");
// rows: [label, value, colour name?]; a string is a heading.
function showTip(x, y, rows) {
  tip.replaceChildren();
  for (const r of rows) {
    if (typeof r === "string") { add(tip, add(el("div"), el("b", "", r))); continue; }
    const line = el("div", "r"), key = el("span");
    if (r[2]) { const dot = el("i"); dot.style.background = colour(r[2]); add(key, dot); }
    add(key, r[0]);
    add(tip, add(line, key, el("span", "", r[1])));
  }
  tip.hidden = false;
  const w = tip.offsetWidth, h = tip.offsetHeight;
  tip.style.left = Math.max(6, Math.min(innerWidth - w - 6, x + 16 + w > innerWidth ? x - w - 14 : x + 16)) + "px";
  tip.style.top = Math.max(6, Math.min(innerHeight - h - 6, y + 14)) + "px";
}
const hideTip = () => { tip.hidden = true; };

function legend(id, items) {
  const host = $(id);
  host.replaceChildren();
  for (const [text, name, kind] of items) {
    const i = el("i", kind || "");
    i.style.background = `var(--${name})`;
    i.style.borderColor = `var(--${name})`;
    add(host, add(el("span"), i, text));
  }
}
const empty = (host, text) => host.replaceChildren(el("div", "empty", text));

// Round steps of an axis.
function ticks(min, max, most) {
  const raw = (max - min) / Math.max(1, most);
  if (!(raw > 0)) return [min];
  const p = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map((m) => m * p).find((s) => s >= raw * 0.999);
  const out = [];
  for (let v = Math.ceil(min / step - 1e-9) * step; v <= max + step * 1e-6; v += step) out.push(+v.toPrecision(12));
  return out;
}
function logTicks(min, max, base) {
  const out = [];
  const b = base || 10;
  let every = 1;
  const n = Math.log(max / min) / Math.log(b);
  if (n > 6) every = Math.ceil(n / 5);
  for (let e = Math.ceil(Math.log(min) / Math.log(b) - 1e-9); Math.pow(b, e) <= max * 1.0001; e++) if (e % every === 0) out.push(Math.pow(b, e));
  if (out.length < 2 && b === 10) return [1, 2, 5].flatMap((m) => [-1, 0, 1, 2].map((k) => m * Math.pow(10, Math.floor(Math.log10(min)) + k))).filter((v) => v >= min && v <= max).sort((a, c) => a - c);
  return out;
}
