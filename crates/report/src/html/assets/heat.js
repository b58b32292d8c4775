// Address space against time.
const RAMP = {
  light: [[246, 243, 232], [254, 217, 142], [252, 148, 61], [219, 72, 62], [140, 23, 92], [50, 10, 70]],
  dark: [[28, 24, 44], [76, 24, 110], [150, 42, 105], [221, 81, 64], [252, 160, 50], [252, 246, 170]],
};
function ramp(f) {
  const r = dark() ? RAMP.dark : RAMP.light, p = Math.max(0, Math.min(.99999, f)) * (r.length - 1), i = Math.floor(p), q = p - i;
  return r[i].map((c, k) => Math.round(c + (r[i + 1][k] - c) * q));
}
const shortName = (n) => n.startsWith("/") ? n.slice(n.lastIndexOf("/") + 1) || n : n;

class Heat extends TimeChart {
  constructor(host) {
    const H = D.heat;
    super(host, `Heat map of ${plural(H.rows.length, "piece")} of address space over time. Use arrow keys to move from cell to cell.`, (w) => Heat.layout(w).height, [], () => null);
    this.tinted = true;
    this.cols = H.counts.length;
    this.values = H.rows.map((r) => {
      const out = new Float64Array(this.cols);
      let c = 0;
      for (const v of r.values) if (v < 0) c -= v; else { if (c < this.cols) out[c] = v; c++; }
      return out;
    });
    // Logarithms once, in plain loops: there can be 300,000 cells.
    const logs = this.values.map((row) => {
      const out = new Float32Array(this.cols);
      for (let c = 0; c < this.cols; c++) out[c] = row[c] ? Math.log(row[c] / H.counts[c]) : -Infinity;
      return out;
    });
    let lo = Infinity, hi = -Infinity;
    for (const row of logs) for (let c = 0; c < this.cols; c++) { const v = row[c]; if (v > hi) hi = v; if (v < lo && v > -Infinity) lo = v; }
    this.hi = Math.exp(hi);
    this.lo = Math.min(Math.exp(lo), this.hi / 2);
    this.row = this.col = -1;
    const floor = Math.log(this.lo), scale = 255 / (hi - floor);
    this.levels = logs.map((row) => {
      const out = new Int16Array(this.cols);
      for (let c = 0; c < this.cols; c++) out[c] = row[c] === -Infinity ? -1 : Math.max(0, Math.round((row[c] - floor) * scale));
      return out;
    });
  }
  // Rows to y: groups of one mapping get at least the height of their label, while there are few.
  static layout(w) {
    const R = D.heat.rows, groups = [];
    R.forEach((r, i) => {
      const last = groups[groups.length - 1], before = R[i - 1];
      if (last && before.space === r.space && before.name === r.name) last.n++;
      else groups.push({ first: i, n: 1, space: r.space, name: r.name });
    });
    const room = 460, min = groups.length <= 26 ? 17 : groups.length <= 60 ? 9 : 3;
    let each = Math.max(.7, Math.min(15, (room - groups.length * 3) / Math.max(1, R.length)));
    let y = 16;
    const at = [], high = [];
    groups.forEach((g) => {
      const h = Math.max(min, g.n * each);
      g.y = y;
      g.h = h;
      for (let k = 0; k < g.n; k++) { at.push(y + h * k / g.n); high.push(h / g.n); }
      y += h + 3;
    });
    return { groups, at, high, left: w > 700 ? 176 : 92, height: Math.ceil(y + 26) };
  }
  columnTime(c) { return c ? D.heat.ends_ns[c - 1] : D.heat.start_ns; }
  draw(g) {
    const L = this.L = Heat.layout(this.w), H = D.heat;
    this.left = L.left;
    super.draw(g);
    const x = [];
    for (let c = 0; c <= this.cols; c++) x.push(this.X(this.columnTime(c)));
    L.groups.forEach((gr) => {
      g.fillStyle = colour("grid");
      g.globalAlpha = .6;
      g.fillRect(this.left, gr.y, this.w - this.right - this.left, gr.h);
      g.globalAlpha = 1;
    });
    this.paint(g, L, x);
    // Addresses are not contiguous here.
    g.fillStyle = colour("card");
    H.rows.forEach((here, i) => {
      const before = H.rows[i - 1];
      if (before && before.space === here.space && before.name === here.name && here.start - before.start > H.row_bytes && L.high[i] > 2.5)
        g.fillRect(this.left, L.at[i] - .5, this.w - this.right - this.left, 1);
    });
    g.textAlign = "right";
    g.textBaseline = "middle";
    let last = -99, space = -1;
    const many = new Set(H.rows.map((r) => r.space)).size > 1;
    L.groups.forEach((gr) => {
      const y = gr.y + gr.h / 2;
      if (many && gr.space !== space) {
        space = gr.space;
        g.fillStyle = colour("accent");
        g.fillRect(0, gr.y - 1.5, this.left - 6, 1);
      }
      if (y - last < 13) return;
      last = y;
      g.fillStyle = colour("ink");
      let text = tame(shortName(gr.name));
      if (many) text = tame((D.processes[gr.space] || "").replace(/ \(\d+\)$/, "")) + ": " + text;
      while (text.length > 3 && g.measureText(text).width > this.left - 12) text = text.slice(0, text.length - 2).replace(/…$/, "") + "…";
      g.fillText(text, this.left - 8, y);
    });
    g.textAlign = "left";
  }
  // Pixel by pixel: a rectangle for each of up to 300,000 cells would take seconds. A pixel that
  // holds several cells shows the hottest.
  paint(g, L, x) {
    const scale = this.base.width / this.w, R = D.heat.rows.length;
    const left = Math.round(x[0] * scale), width = Math.max(1, Math.round(x[this.cols] * scale) - left);
    const top = Math.floor(L.at[0] * scale), height = Math.max(1, Math.ceil((L.at[R - 1] + L.high[R - 1]) * scale) - top);
    const image = g.createImageData(width, height), px = new Uint32Array(image.data.buffer);
    const table = new Uint32Array(256);
    for (let k = 0; k < 256; k++) { const [r, gg, b] = ramp(k / 255); table[k] = (255 << 24 | b << 16 | gg << 8 | r) >>> 0; }
    const x0 = [], x1 = [];
    for (let c = 0; c < this.cols; c++) {
      x0.push(Math.min(width - 1, Math.max(0, Math.round(x[c] * scale) - left)));
      x1.push(Math.min(width, Math.max(x0[c] + 1, Math.round(x[c + 1] * scale) - left)));
    }
    const line = new Int16Array(width);
    let from = 0;
    for (let y = 0; y < height; y++) {
      const a = (top + y) / scale, b = (top + y + 1) / scale;
      while (from < R && L.at[from] + L.high[from] <= a) from++;
      line.fill(-1);
      for (let i = from; i < R && L.at[i] < b; i++) {
        // A row that ends or begins within the pixel counts only if it is small or has most of it.
        if (L.high[i] * scale > 1.5 && Math.min(b, L.at[i] + L.high[i]) - Math.max(a, L.at[i]) < .5 / scale) continue;
        const heats = this.levels[i];
        for (let c = 0; c < this.cols; c++) {
          const v = heats[c];
          if (v < 0) continue;
          for (let k = x0[c]; k < x1[c]; k++) if (v > line[k]) line[k] = v;
        }
      }
      for (let k = 0; k < width; k++) if (line[k] >= 0) px[y * width + k] = table[line[k]];
    }
    const over = el("canvas");
    over.width = width;
    over.height = height;
    over.getContext("2d").putImageData(image, 0, 0);
    g.drawImage(over, left / scale, top / scale, width / scale, height / scale);
  }
  find(t, y) {
    let c = D.heat.ends_ns.findIndex((e) => e >= t);
    if (c < 0) c = this.cols - 1;
    let r = -1;
    const L = this.L;
    for (let i = 0; i < L.at.length; i++) if (y >= L.at[i] && y < L.at[i] + L.high[i]) { r = i; break; }
    return [r, c];
  }
  hover(t, px, py, y) {
    [this.row, this.col] = this.find(t, y);
    this.tell(px, py, t);
  }
  tell(px, py, t) {
    hovered = t;
    for (const c of all) if (c instanceof TimeChart) c.overlay();
    const H = D.heat, r = H.rows[this.row];
    if (!r) { hideTip(); return; }
    const v = this.values[this.row][this.col], n = H.counts[this.col], length = D.span.end_ns - D.span.start_ns;
    const rows = [tame(r.name) + (r.others ? ` and ${plural(r.others, "other")}` : ""),
      [`${fhex(r.start)} –`, fhex(r.start + H.row_bytes)],
      [`${fsec(this.columnTime(this.col), length)} –`, fsec(H.ends_ns[this.col], length)],
      ["pages written", fint(v)]];
    if (n > 1) rows.push(["per checkpoint, of " + fint(n), fnum(v / n)]);
    rows.push(["in the whole recording", fint(r.pages)]);
    if (Object.keys(D.processes).length > 1) rows.push(["process", tame(D.processes[r.space] || "")]);
    showTip(px, py, rows);
  }
  leave() { this.row = -1; super.leave(); }
  drawOver(g) {
    super.drawOver(g);
    if (this.row < 0 || !this.L) return;
    const x = this.X(this.columnTime(this.col)), w = this.X(D.heat.ends_ns[this.col]) - x;
    g.strokeStyle = colour("ink");
    g.lineWidth = 1.5;
    g.strokeRect(x - 1, this.L.at[this.row] - 1, Math.max(3, w + 2), Math.max(3, this.L.high[this.row] + 2));
  }
}

function heat() {
  const H = D.heat, host = $("c-heat");
  if (!H.rows.length) {
    empty(host, F.checkpoints.count ? "This recording does not say where pages were written." : "No checkpoint yet.");
    return;
  }
  const groups = new Map();
  let total = 0;
  for (const r of H.rows) { const k = shortName(r.name); groups.set(k, (groups.get(k) || 0) + r.pages); total += r.pages; }
  const [best, pages] = [...groups].sort((a, b) => b[1] - a[1])[0];
  $("f-heat").textContent = `${plural(H.rows.length, "piece")} of ${fbytes(H.row_bytes)} were written to; ${fpct(pages / total)} of all written pages are in “${tame(best)}”.`;
  const chart = new Heat(host);
  chart.base.addEventListener("keydown", (e) => {
    const move = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (!move) return;
    e.preventDefault();
    e.stopImmediatePropagation();
    const far = e.shiftKey ? 10 : 1;
    chart.row = Math.max(0, Math.min(H.rows.length - 1, chart.row < 0 ? 0 : chart.row + move[0] * far));
    chart.col = Math.max(0, Math.min(chart.cols - 1, chart.col + move[1] * far));
    const t = (chart.columnTime(chart.col) + H.ends_ns[chart.col]) / 2;
    const [px, py] = chart.point(chart.X(t), chart.L.at[chart.row]);
    chart.tell(px, py, t);
  }, true);
  scale($("l-heat"), chart);
}
function scale(host, chart) {
  host.replaceChildren();
  const c = el("canvas");
  c.width = 220; c.height = 10;
  c.setAttribute("aria-hidden", "true");
  const paint = () => {
    const g = c.getContext("2d");
    for (let x = 0; x < 220; x++) { const [r, gg, b] = ramp(x / 219); g.fillStyle = `rgb(${r},${gg},${b})`; g.fillRect(x, 0, 1, 10); }
  };
  paint();
  themed.push(paint);
  const span = el("span");
  add(span, fnum(chart.lo), c, fnum(chart.hi) + " pages per checkpoint");
  add(host, span);
}
