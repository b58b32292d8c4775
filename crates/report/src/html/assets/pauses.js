// Pauses: their distribution, and what they consist of over time.
function pauses() {
  const b = F.pause.boundary;
  const host = $("c-hist");
  if (!b.count) {
    empty(host, "No checkpoint yet.");
    empty($("c-pause"), "No checkpoint yet.");
    return;
  }
  const only = F.checkpoints.count === F.checkpoints.full;
  const top = F.pause.phases.reduce((a, p) => p.ns.total > a.ns.total ? p : a, F.pause.phases[0]);
  $("f-pause").textContent = only
    ? `There is only a full checkpoint; it took ${fns(b.max)}.`
    : `Half of the pauses are shorter than ${fns(b.p50)}, 99 in 100 shorter than ${fns(b.p99)}; the longest took ${fns(b.max)}.` +
      (top && top.ns.total ? ` Most of it goes into the phase “${top.name}” (${fpct(top.share)}).` : "");
  new Histogram(host, F.pause.histogram);
  if (!N) { empty($("c-pause"), "Only full checkpoints so far."); return; }

  const means = [];
  for (let i = 0; i < N; i++) means.push(P.phases.reduce((a, p) => a + p[i], 0) / P.n[i]);
  // A rare long one is above; here it would flatten all the rest.
  const ceiling = Math.min(most(means), quantile(means, .98) * 1.35) * 1.05 || 1;
  const low = Math.max(500, quantile(P.max, 0) * .7), high = Math.max(low * 4, b.max * 1.4);
  const chart = new TimeChart($("c-pause"), `Pauses over time: longest ${fns(b.max)}, median ${fns(b.p50)}. Use arrow keys to read values, Enter to choose the second.`, 340, [
    {
      weight: 5, log: true, min: low, max: high, format: fns, title: "longest pause (logarithmic)",
      draw(g, X, Y, box) {
        marked(g, X, box);
        const line = Y(b.p99);
        g.strokeStyle = colour("dim"); g.setLineDash([2, 4]); g.lineWidth = 1;
        g.beginPath(); g.moveTo(box.l, line); g.lineTo(box.r, line); g.stroke();
        g.setLineDash([]);
        g.fillStyle = colour("dim"); g.textAlign = "right";
        g.fillText("p99", box.r - 2, line - 4);
        g.textAlign = "left";
        const r = N > 600 ? 1.3 : N > 200 ? 1.7 : 2.3;
        for (let i = 0; i < N; i++) {
          const bad = P.max[i] > b.p99;
          g.fillStyle = colour(bad ? "bad" : "accent");
          g.globalAlpha = bad ? .95 : .6;
          g.beginPath(); g.arc(X(P.at[i]), Y(P.max[i]), bad ? r + .6 : r, 0, 7); g.fill();
        }
        g.globalAlpha = 1;
      },
    },
    {
      weight: 6, min: 0, max: ceiling, format: fns, title: "average pause by phase",
      draw(g, X, Y, box) {
        const sum = new Float64Array(N);
        const edge = (k) => {
          const lower = Float64Array.from(sum);
          for (let i = 0; i < N; i++) sum[i] += P.phases[k][i] / P.n[i];
          g.fillStyle = colour("p" + k);
          for (let i = 0; i < N; i++) {
            const x0 = X(narrowOf(i)), x1 = X(P.at[i]), y1 = Y(sum[i]), y0 = Y(lower[i]);
            if (y0 > y1) g.fillRect(x0, y1, Math.max(.8, x1 - x0 + .35), y0 - y1);
          }
        };
        for (let k = 0; k < 7; k++) edge(k);
        g.fillStyle = colour("bad");
        for (let i = 0; i < N; i++) if (sum[i] > ceiling) { const x = X((narrowOf(i) + P.at[i]) / 2); g.beginPath(); g.moveTo(x - 4, box.t + 3); g.lineTo(x + 4, box.t + 3); g.lineTo(x, box.t - 4); g.fill(); }
        marked(g, X, box);
      },
    },
  ], (t) => {
    const i = pointAt(t);
    if (i < 0) return null;
    const rows = [heading(i), ["longest" + (P.n[i] > 1 ? `, checkpoint ${P.max_id[i]}` : ""), fns(P.max[i])]];
    if (P.n[i] > 1) rows.push(["average", fns(means[i])]);
    D.phases.forEach((name, k) => { const v = P.phases[k][i] / P.n[i]; if (v) rows.push([name, fns(v), "p" + k]); });
    if (P.precopy[i]) rows.push(["pre-copy stops", fns(P.precopy[i] / P.n[i]), "pre"]);
    return rows;
  });
  void chart;
  legend("l-pause", D.phases.map((name, k) => [`${name} ${fpct(F.pause.phases[k].share)}`, "p" + k]));
}

class Histogram extends Canvas {
  constructor(host, bins) {
    const b = F.pause.boundary;
    super(host, `Histogram of ${fint(b.count)} pauses: median ${fns(b.p50)}, 90 % ${fns(b.p90)}, 99 % ${fns(b.p99)}, longest ${fns(b.max)}`, 340);
    // At least a decade, so that one value is not a wall.
    this.bins = bins;
    this.lo = Math.max(1, bins[0].from);
    this.hi = bins[bins.length - 1].to;
    const wide = this.hi / this.lo;
    if (wide < 10) { const f = Math.sqrt(10 / wide); this.lo /= f; this.hi *= f; }
    const c = this.base;
    c.addEventListener("pointermove", (e) => { const [x] = this.at(e); this.sel = this.find(x); this.tell(e.clientX, e.clientY); });
    const off = () => { this.sel = -1; hideTip(); this.overlay(); };
    c.addEventListener("pointerleave", off);
    c.addEventListener("blur", off);
    c.addEventListener("keydown", (e) => {
      if (e.key !== "ArrowLeft" && e.key !== "ArrowRight") return;
      e.preventDefault();
      const s = this.sel === undefined ? -1 : this.sel;
      this.sel = Math.max(0, Math.min(bins.length - 1, s + (e.key === "ArrowRight" ? 1 : -1)));
      const [x, y] = this.point(this.X(bins[this.sel].to), 60);
      this.tell(x, y);
    });
    this.sel = -1;
  }
  X(v) { return 46 + (this.w - 58) * Math.log(Math.max(v, this.lo) / this.lo) / Math.log(this.hi / this.lo); }
  find(x) { return this.bins.findIndex((b) => x >= this.X(b.from) && x < this.X(b.to)); }
  tell(px, py) {
    this.overlay();
    const b = this.bins[this.sel];
    if (!b) { hideTip(); return; }
    const total = F.pause.boundary.count;
    let below = 0;
    for (let i = 0; i <= this.sel; i++) below += this.bins[i].count;
    showTip(px, py, [`${fns(b.from)} to ${fns(b.to)}`, ["checkpoints", fint(b.count)], ["share", fpct(b.count / total)], ["this long or shorter", fpct(below / total)]]);
  }
  draw(g) {
    g.clearRect(0, 0, this.w, this.h);
    const top = 62, bottom = this.h - 24, max = most(this.bins.map((b) => b.count)) || 1;
    const Y = (v) => bottom - (bottom - top) * v / max;
    g.textBaseline = "middle";
    for (const v of ticks(0, max, 5)) {
      if (v % 1) continue;
      const y = Math.round(Y(v)) + .5;
      g.strokeStyle = colour("grid");
      g.beginPath(); g.moveTo(46, y); g.lineTo(this.w - 12, y); g.stroke();
      g.textAlign = "right"; g.fillStyle = colour("dim"); g.fillText(fint(v), 40, y);
    }
    for (const b of this.bins) {
      if (!b.count) continue;
      const x0 = this.X(b.from) + 1, x1 = this.X(b.to) - .5, y = Math.min(Y(b.count), bottom - 2);
      g.fillStyle = colour(b.from > F.pause.boundary.p99 ? "bad" : "accent");
      g.globalAlpha = .8;
      g.fillRect(x0, y, Math.max(1, x1 - x0), bottom - y);
      g.globalAlpha = 1;
    }
    g.textBaseline = "top"; g.textAlign = "center"; g.fillStyle = colour("dim");
    let last = -99;
    for (const v of logTicks(this.lo, this.hi)) {
      const x = this.X(v);
      if (x - last < 46 || x > this.w - 8) continue;
      last = x;
      g.fillText(fns(v), x, bottom + 7);
    }
    // Percentiles as flags at staggered heights, so that they never cover each other.
    const b = F.pause.boundary;
    [["p50", b.p50], ["p90", b.p90], ["p99", b.p99], ["max", b.max]].forEach(([name, v], i) => {
      const x = Math.round(this.X(v)) + .5, y = 2 + i * 14;
      g.strokeStyle = colour("ink"); g.globalAlpha = .5; g.setLineDash([2, 3]);
      g.beginPath(); g.moveTo(x, y + 12); g.lineTo(x, bottom); g.stroke();
      g.setLineDash([]); g.globalAlpha = 1;
      const text = `${name} ${fns(v)}`, w = g.measureText(text).width;
      const at = Math.max(40, Math.min(this.w - w - 2, x - w / 2));
      g.fillStyle = colour("card"); g.fillRect(at - 3, y - 1, w + 6, 14);
      g.textAlign = "left"; g.fillStyle = colour("ink"); g.fillText(text, at, y);
    });
    g.textAlign = "left";
  }
  drawOver(g) {
    const b = this.bins[this.sel];
    if (!b) return;
    g.strokeStyle = colour("ink");
    g.strokeRect(this.X(b.from) + .5, 62, this.X(b.to) - this.X(b.from), this.h - 86);
  }
}
