// A chart on canvas: a drawing that is made anew when size or theme change, an overlay for what the
// pointer and the chosen second show, and the same by keyboard.
const all = [];
let ready = false; // all is made, and drawn once
let picked = null; // chosen second
let hovered = null; // time under the pointer, of any time chart
const FONT = "12px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif";

class Canvas {
  constructor(host, label, height) {
    host.replaceChildren();
    this.plot = el("div", "plot");
    this.base = el("canvas");
    this.over = el("canvas", "over");
    this.base.tabIndex = 0;
    this.base.setAttribute("role", "img");
    this.base.setAttribute("aria-label", label);
    add(host, add(this.plot, this.base, this.over));
    this.height = height;
    all.push(this);
  }
  size() {
    const w = Math.max(200, this.plot.clientWidth), h = typeof this.height === "function" ? this.height(w) : this.height;
    const scale = Math.min(3, devicePixelRatio || 1);
    for (const c of [this.base, this.over]) {
      c.width = Math.round(w * scale);
      c.height = Math.round(h * scale);
      c.style.height = h + "px";
      c.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
    }
    this.w = w;
    this.h = h;
  }
  get g() { const g = this.base.getContext("2d"); g.font = FONT; return g; }
  get o() { const g = this.over.getContext("2d"); g.font = FONT; return g; }
  redraw() { this.size(); this.draw(this.g); this.overlay(); }
  overlay() { const g = this.o; g.clearRect(0, 0, this.w, this.h); this.drawOver(g); }
  drawOver() {}
  at(event) { const r = this.base.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; }
  point(x, y) { const r = this.base.getBoundingClientRect(); return [r.left + x, r.top + y]; }
}

// Panels one above the other over a common axis of time. A panel: {weight, log, min, max, format,
// title, draw(g, X, Y, box)}.
class TimeChart extends Canvas {
  constructor(host, label, height, panels, tipOf) {
    super(host, label, height);
    this.panels = panels;
    this.tipOf = tipOf;
    this.left = 62;
    this.right = 10;
    const c = this.base;
    c.addEventListener("pointermove", (e) => {
      const [x, y] = this.at(e);
      if (x < this.left - 4 || x > this.w - this.right + 4) { this.leave(); return; }
      this.hover(this.time(x), e.clientX, e.clientY, y);
    });
    c.addEventListener("pointerleave", () => this.leave());
    c.addEventListener("blur", () => this.leave());
    c.addEventListener("click", (e) => { const [x] = this.at(e); if (x >= this.left - 4) pickTime(this.time(x)); });
    c.addEventListener("keydown", (e) => {
      const step = (D.span.end_ns - D.span.start_ns) / 100 * (e.shiftKey ? 10 : 1);
      const now = hovered === null ? D.span.start_ns : hovered;
      let to = null;
      if (e.key === "ArrowRight") to = now + step;
      if (e.key === "ArrowLeft") to = now - step;
      if (e.key === "Home") to = D.span.start_ns;
      if (e.key === "End") to = D.span.end_ns;
      if (e.key === "Escape") { this.leave(); return; }
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pickTime(now); return; }
      if (to === null) return;
      e.preventDefault();
      to = Math.max(D.span.start_ns, Math.min(D.span.end_ns, to));
      const [px, py] = this.point(this.X(to), 20);
      this.hover(to, px, py, 20);
    });
  }
  hover(t, px, py, y) {
    hovered = t;
    for (const c of all) if (c instanceof TimeChart) c.overlay();
    const rows = this.tipOf(t, y);
    if (rows) for (const b of D.bookmarks.filter((b) => Math.abs(this.X(b.at) - this.X(t)) < 4).slice(0, 8)) rows.push([tame(b.name), tame(b.note) || "checkpoint " + b.id]);
    if (rows) showTip(px, py, rows); else hideTip();
  }
  leave() { hovered = null; hideTip(); for (const c of all) if (c instanceof TimeChart) c.overlay(); }
  X(t) {
    const s = D.span, n = Math.max(1, s.end_ns - s.start_ns);
    return this.left + (this.w - this.left - this.right) * (t - s.start_ns) / n;
  }
  time(x) {
    const s = D.span, f = Math.max(0, Math.min(1, (x - this.left) / (this.w - this.left - this.right)));
    return s.start_ns + f * (s.end_ns - s.start_ns);
  }
  draw(g) {
    g.clearRect(0, 0, this.w, this.h);
    const weights = this.panels.reduce((a, p) => a + p.weight, 0), gap = 26;
    const room = this.h - 24 - gap * (this.panels.length - 1) - 14;
    let top = 14;
    for (const p of this.panels) {
      const h = room * p.weight / weights;
      const box = { l: this.left, r: this.w - this.right, t: top, b: top + h };
      const Y = p.log
        ? (v) => box.b - (box.b - box.t) * Math.log(Math.max(v, p.min) / p.min) / Math.log(p.max / p.min)
        : (v) => box.b - (box.b - box.t) * (v - p.min) / (p.max - p.min || 1);
      g.lineWidth = 1;
      g.textBaseline = "middle";
      g.textAlign = "right";
      const marks = p.log ? logTicks(p.min, p.max, p.base) : ticks(p.min, p.max, Math.max(2, Math.floor(h / 34)));
      for (const v of marks) {
        const y = Math.round(Y(v)) + .5;
        g.strokeStyle = colour("grid");
        g.beginPath(); g.moveTo(box.l, y); g.lineTo(box.r, y); g.stroke();
        g.fillStyle = colour("dim");
        g.fillText(p.format(v), box.l - 7, y);
      }
      g.textAlign = "left";
      g.textBaseline = "alphabetic";
      g.save();
      g.beginPath(); g.rect(box.l - 1, box.t - 4, box.r - box.l + 2, box.b - box.t + 5); g.clip();
      p.draw(g, (t) => this.X(t), Y, box);
      g.restore();
      g.fillStyle = colour("dim");
      g.fillText(p.title, box.l + 5, box.t - 4);
      g.strokeStyle = colour("line");
      g.beginPath(); g.moveTo(box.l, Math.round(box.b) + .5); g.lineTo(box.r, Math.round(box.b) + .5); g.stroke();
      top += h + gap;
    }
    const s = D.span;
    g.textBaseline = "top";
    g.fillStyle = colour("dim");
    const list = ticks(s.start_ns / 1e9, s.end_ns / 1e9, Math.max(2, Math.floor((this.w - 70) / 90)));
    const d = list.length > 1 ? Math.max(0, -Math.floor(Math.log10(list[1] - list[0]) + 1e-9)) : 3;
    for (const v of list) {
      const x = this.X(v * 1e9), text = v.toFixed(d) + " s", half = g.measureText(text).width / 2;
      g.textAlign = x + half > this.w ? "right" : x - half < 0 ? "left" : "center";
      g.fillText(text, Math.min(x, this.w - 1), this.h - 18);
      g.strokeStyle = colour("line");
      g.beginPath(); g.moveTo(Math.round(x) + .5, this.h - 24); g.lineTo(Math.round(x) + .5, this.h - 20); g.stroke();
    }
    g.textAlign = "left";
    // Flags of bookmarks, above the panels.
    g.fillStyle = colour("accent");
    for (const b of D.bookmarks) {
      const x = Math.round(this.X(b.at)) + .5;
      g.beginPath(); g.moveTo(x, 0); g.lineTo(x + 6, 3); g.lineTo(x, 6); g.closePath(); g.fill();
      g.fillRect(x - .5, 0, 1, 10);
    }
  }
  drawOver(g) {
    if (picked !== null) {
      const x0 = Math.max(this.left, this.X(picked * 1e9)), x1 = Math.min(this.w - this.right, this.X((picked + 1) * 1e9));
      if (this.tinted) {
        // Colour says something here: only the edges.
        g.fillStyle = colour("accent");
        g.globalAlpha = .6;
        g.fillRect(x0, 10, 1, this.h - 34);
        g.fillRect(Math.max(x0 + 1, x1 - 1), 10, 1, this.h - 34);
        g.globalAlpha = 1;
      } else {
        g.fillStyle = colour("band");
        g.fillRect(x0, 10, Math.max(2, x1 - x0), this.h - 34);
      }
      g.fillStyle = colour("accent");
      g.fillRect(x0, this.h - 25, Math.max(2, x1 - x0), 2);
    }
    if (hovered !== null) {
      const x = Math.round(this.X(hovered)) + .5;
      g.strokeStyle = colour("ink");
      g.globalAlpha = .45;
      g.lineWidth = 1;
      g.beginPath(); g.moveTo(x, 10); g.lineTo(x, this.h - 24); g.stroke();
      g.globalAlpha = 1;
    }
  }
}

const P = D.points, N = P.at.length;
// Point that holds a time: the first that ends at it or later.
function pointAt(t) {
  if (!N) return -1;
  let a = 0, b = N - 1;
  while (a < b) { const m = (a + b) >> 1; if (P.at[m] < t) a = m + 1; else b = m; }
  return a;
}
const beginOf = (i) => i ? P.at[i - 1] : D.span.start_ns;
// Most of three usual intervals: a pause does not fill the time in which there was no other.
const narrowOf = (i) => Math.max(beginOf(i), P.at[i] - usual);
const named = (i) => P.n[i] === 1 ? "checkpoint " + P.id[i] : `${fint(P.n[i])} checkpoints from ${P.id[i]}`;
const heading = (i) => fsec(P.at[i], D.span.end_ns - D.span.start_ns) + ", " + named(i);

function steps(g, X, Y, box, values, fill, stroke, width) {
  if (!values.length) return;
  const path = (close) => {
    g.beginPath();
    if (close) g.moveTo(X(beginOf(0)), box.b);
    for (let i = 0; i < values.length; i++) {
      const y = Y(values[i]), x0 = X(beginOf(i)), x1 = Math.max(x0 + .6, X(P.at[i]));
      if (!i && !close) g.moveTo(x0, y); else g.lineTo(x0, y);
      g.lineTo(x1, y);
    }
    if (close) { g.lineTo(X(P.at[values.length - 1]), box.b); g.closePath(); }
  };
  if (fill) { path(true); g.fillStyle = colour(fill); g.fill(); }
  if (stroke) { path(false); g.strokeStyle = colour(stroke); g.lineWidth = width || 1.4; g.lineJoin = "round"; g.stroke(); }
}
// Forks and points of the program may be everywhere; they are in the table only.
const turns = D.special.filter((s) => s.marks.some((m) => m === "full" || m === "exec" || m === "crash" || m === "exit")).slice(0, 100);
function marked(g, X, box) {
  g.save();
  g.setLineDash([3, 3]);
  g.strokeStyle = colour("dim");
  g.globalAlpha = .6;
  for (const s of turns) {
    const x = Math.round(X(s.at)) + .5;
    g.beginPath(); g.moveTo(x, box.t - 4); g.lineTo(x, box.b); g.stroke();
  }
  g.restore();
}
const quantile = (list, q) => { const s = Float64Array.from(list).sort(); return s.length ? s[Math.round((s.length - 1) * q)] : 0; };
const most = (list) => { let m = 0; for (const v of list) if (v > m) m = v; return m; };
const usual = 3 * quantile(P.at.map((t, i) => t - beginOf(i)), .5);
