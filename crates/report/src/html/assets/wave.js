// One second, thread by thread.
const KINDS = ["boundary", "pre-copy", "given up, a page was written too early", "calls inside the target"];
const US = 1e6;

class Wave extends Canvas {
  constructor(host) {
    super(host, "Waveform of one second. Plus and minus zoom, arrow keys move, 0 shows the whole second.", () => this.tall());
    this.left = 0;
    this.lanes = [];
    const c = this.base;
    c.addEventListener("pointerdown", (e) => {
      const [x, y] = this.at(e);
      this.grab = { x, from: this.from, to: this.to, strip: y < 34 };
      if (this.grab.strip) this.center((x - this.left) / this.span * US);
      c.setPointerCapture(e.pointerId);
    });
    c.addEventListener("pointermove", (e) => {
      const [x, y] = this.at(e), s = this.grab;
      if (s && s.strip) { this.center((x - this.left) / this.span * US); return; }
      if (s && Math.abs(x - s.x) > 2) { const d = (s.x - x) / this.span * (s.to - s.from); this.view(s.from + d, s.to + d); hideTip(); return; }
      this.tell(x, y, e.clientX, e.clientY);
    });
    c.addEventListener("pointerup", () => { this.grab = null; });
    c.addEventListener("pointercancel", () => { this.grab = null; });
    c.addEventListener("pointerleave", () => { this.mark = null; hideTip(); this.overlay(); });
    c.addEventListener("wheel", (e) => {
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      const [x] = this.at(e);
      this.zoom(Math.exp(e.deltaY * .003), this.from + (x - this.left) / this.span * (this.to - this.from));
    }, { passive: false });
    c.addEventListener("dblclick", () => this.view(0, US));
    c.addEventListener("keydown", (e) => {
      const w = this.to - this.from;
      const act = { "+": () => this.zoom(.5), "=": () => this.zoom(.5), "-": () => this.zoom(2), "0": () => this.view(0, US),
        ArrowLeft: () => this.view(this.from - w * .2, this.to - w * .2), ArrowRight: () => this.view(this.from + w * .2, this.to + w * .2),
        Home: () => this.view(0, w), End: () => this.view(US - w, US) }[e.key];
      if (act) { e.preventDefault(); act(); }
    });
  }
  get span() { return Math.max(1, this.w - this.left - 8); }
  tall() { return 62 + Math.max(1, this.rows || 1) * this.laneHeight() + 26; }
  laneHeight() { return (this.rows || 1) > 24 ? 15 : (this.rows || 1) > 10 ? 22 : 34; }
  show(second) {
    this.s = second;
    const tri = (list, n) => { const out = []; for (let i = 0; i + n <= list.length; i += n) out.push(list.slice(i, i + n)); return out; };
    this.stops = tri(second.stops, 5).sort((a, b) => a[1] - b[1]);
    const stalls = tri(second.stalls, 3), faults = tri(second.faults, 2);
    this.skips = tri(second.skips, 3);
    const many = new Set(second.lanes.map((l) => l[0])).size > 1;
    const order = second.lanes.map((l, i) => [l[0], l[1], i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    this.lanes = order.map(([space, tid, lane]) => {
      const name = D.threads[tid] || "thread", process = D.processes[space] || "";
      return {
        label: tame(many ? process.replace(/ \(\d+\)$/, "") + "/" + name : name), tid,
        title: `${tame(name)}, thread ${tid}` + (process ? `, of ${tame(process)}` : ""),
        stalls: stalls.filter((s) => s[0] === lane).map((s) => [0, s[1], s[2]]).sort((a, b) => a[1] - b[1]),
        faults: faults.filter((f) => f[0] === lane).map((f) => f[1]),
      };
    });
    // Without stalls of single threads the stop as a whole stands for all.
    this.whole = !this.lanes.some((l) => l.stalls.length);
    const common = this.stops.filter((s) => s[0] !== 0 || this.whole).map((s) => [s[0], s[1], s[2]]);
    if (!this.lanes.length) this.lanes = [{ label: "all threads", tid: 0, title: "all threads", stalls: [], faults: [] }];
    for (const l of this.lanes) l.stalls = l.stalls.concat(common).sort((a, b) => a[1] - b[1]);
    this.rows = this.lanes.length;
    const worst = this.stops.reduce((a, s) => !a || s[2] > a[2] ? s : a, null);
    this.from = 0;
    this.to = US;
    if (this.stops.length > 160 && worst) {
      const w = Math.max(US * 50 / this.stops.length, 4 * worst[2]);
      this.from = Math.max(0, Math.min(US - w, worst[1] - w * .4));
      this.to = Math.min(US, this.from + w);
    }
    if (ready) this.redraw();
  }
  center(t) { const w = this.to - this.from; this.view(t - w / 2, t + w / 2); }
  zoom(f, about) {
    const a = about === undefined ? (this.from + this.to) / 2 : about;
    const w = Math.max(20, Math.min(US, (this.to - this.from) * f)), k = (a - this.from) / (this.to - this.from);
    this.view(a - w * k, a + w * (1 - k));
  }
  view(a, b) {
    const w = Math.min(US, b - a);
    a = Math.max(0, Math.min(US - w, a));
    this.from = a;
    this.to = a + w;
    this.draw(this.g);
    this.overlay();
  }
  X(us) { return this.left + (us - this.from) / (this.to - this.from) * this.span; }
  block(g, kind, start, length, y, h, from, to) {
    const k = this.span / (to - from), x = this.left + (start - from) * k, w = length * k;
    if (x + w < this.left || x > this.w) return;
    g.fillStyle = colour("s" + kind);
    g.globalAlpha = w >= 1 ? 1 : Math.max(.3, Math.sqrt(w));
    const x0 = Math.max(this.left, x);
    g.fillRect(x0, y, Math.max(1, x + w - x0), h);
    g.globalAlpha = 1;
  }
  draw(g) {
    if (!this.s) return;
    this.left = this.w > 640 ? 150 : 84;
    g.clearRect(0, 0, this.w, this.h);
    g.textBaseline = "middle";
    // The strip: the whole second.
    g.fillStyle = colour("grid");
    g.fillRect(this.left, 8, this.span, 20);
    for (const s of this.stops) this.block(g, s[0], s[1], s[2], 8, 20, 0, US);
    g.fillStyle = colour("bad");
    for (const [at] of this.skips) { const x = this.left + at / US * this.span; g.beginPath(); g.moveTo(x - 4, 3); g.lineTo(x + 4, 3); g.lineTo(x, 9); g.fill(); }
    g.fillStyle = colour("dim");
    g.textAlign = "right";
    g.fillText(`second ${this.s.second}`, this.left - 8, 18);
    const x0 = this.left + this.from / US * this.span, x1 = this.left + this.to / US * this.span;
    if (this.to - this.from < US * .999) {
      g.strokeStyle = colour("ink"); g.lineWidth = 1.5;
      g.strokeRect(x0 - .5, 6.5, Math.max(4, x1 - x0 + 1), 23);
      g.globalAlpha = .22; g.beginPath(); g.moveTo(x0, 31); g.lineTo(this.left, 50); g.moveTo(x1, 31); g.lineTo(this.left + this.span, 50); g.stroke(); g.globalAlpha = 1;
    }
    const h = this.laneHeight(), top = 54;
    // Checkpoint numbers where there is room.
    const seen = this.stops.filter((s) => s[0] === 0 && s[1] + s[2] >= this.from && s[1] <= this.to);
    g.textAlign = "left";
    g.fillStyle = colour("dim");
    let free = -99;
    for (const s of seen) {
      const x = Math.max(this.left, this.X(s[1])), text = "#" + s[4], w = g.measureText(text).width;
      if (x < free || x + w > this.w) continue;
      free = x + w + 10;
      g.fillText(text, x, 44);
    }
    this.lanes.forEach((l, i) => {
      const y = top + i * h + 3, high = h - 6;
      g.textAlign = "right";
      g.fillStyle = colour("ink");
      let text = l.label + (l.tid && this.left > 100 ? " " + l.tid : "");
      while (text.length > 3 && g.measureText(text).width > this.left - 12) text = text.slice(0, -2).replace(/…$/, "") + "…";
      g.fillText(text, this.left - 8, y + high / 2);
      g.save();
      g.beginPath(); g.rect(this.left, y - 2, this.span, high + 4); g.clip();
      // Running: a filled level; standing: a gap down to the base line.
      g.fillStyle = colour("run");
      g.fillRect(this.left, y, this.span, high);
      g.fillStyle = colour("runline");
      g.fillRect(this.left, y, this.span, 1.5);
      for (const s of l.stalls) {
        const x = this.X(s[1]), w = s[2] / (this.to - this.from) * this.span;
        if (w > 2) { g.fillStyle = colour("card"); g.fillRect(x, y - 1, w, high + 2); }
        this.block(g, s[0], s[1], s[2], w > 2 ? y + high * .35 : y, w > 2 ? high * .65 : high, this.from, this.to);
        if (w > 3) { g.fillStyle = colour("runline"); g.fillRect(x - .7, y, 1.4, high); g.fillRect(x + w - .7, y, 1.4, high); }
      }
      if (l.faults.length) {
        g.fillStyle = colour("ink");
        g.globalAlpha = .55;
        for (const f of l.faults) if (f >= this.from && f <= this.to) g.fillRect(this.X(f), y + high - Math.min(7, high * .4), 1, Math.min(7, high * .4));
        g.globalAlpha = 1;
      }
      g.restore();
    });
    const bottom = top + this.rows * h + 2, w = (this.to - this.from) / US;
    g.textAlign = "center"; g.textBaseline = "top";
    const list = ticks(this.from / 1e3, this.to / 1e3, Math.max(2, Math.floor(this.span / 100)));
    const d = list.length > 1 ? Math.max(0, -Math.floor(Math.log10(list[1] - list[0]) + 1e-9)) : 0;
    for (const ms of list) {
      const x = this.X(ms * 1e3);
      g.strokeStyle = colour("line"); g.lineWidth = 1;
      g.beginPath(); g.moveTo(Math.round(x) + .5, bottom); g.lineTo(Math.round(x) + .5, bottom + 5); g.stroke();
      g.fillStyle = colour("dim");
      const text = "+" + ms.toFixed(d) + " ms", half = g.measureText(text).width / 2;
      g.textAlign = x + half > this.w ? "right" : "center";
      g.fillText(text, Math.min(x, this.w - 1), bottom + 8);
    }
    g.textAlign = "left";
    void w;
  }
  tell(x, y, px, py) {
    if (!this.s || x < this.left) { this.mark = null; hideTip(); this.overlay(); return; }
    const strip = y < 34;
    const t = strip ? (x - this.left) / this.span * US : this.from + (x - this.left) / this.span * (this.to - this.from);
    const near = (strip ? US : this.to - this.from) / this.span * 4;
    const stop = this.stops.reduce((a, s) => {
      const d = t < s[1] ? s[1] - t : t > s[1] + s[2] ? t - s[1] - s[2] : 0;
      return d <= near && (!a || d < a[0]) ? [d, s] : a;
    }, null);
    const lane = this.lanes[Math.floor((y - 54) / this.laneHeight())];
    const rows = [`second ${this.s.second} + ${(t / 1e3).toFixed(3)} ms`];
    if (lane && y >= 54) rows.push([lane.title, ""]);
    if (stop) {
      const s = stop[1];
      rows.push([KINDS[s[0]], fns(s[2] * 1e3), "s" + s[0]], ["checkpoint", "#" + s[4]], ["pages found", fint(s[3])]);
      const own = lane && lane.stalls.find((l) => l[0] === s[0] && l[1] <= s[1] + s[2] && l[1] + l[2] >= s[1]);
      if (own && !this.whole && s[0] === 0) rows.push(["this thread stood", fns(own[2] * 1e3)]);
    } else rows.push(["running", "", "run"]);
    const skip = this.skips.find((k) => Math.abs(k[0] - t) <= near);
    if (skip) rows.push([`${plural(skip[1], "tick")} not taken`, REASONS[skip[2]] || ""]);
    if (lane && lane.faults.length) {
      const n = lane.faults.filter((f) => Math.abs(f - t) <= near).length;
      if (n) rows.push(["faults within 4 pixels", fint(n)]);
    }
    this.mark = strip ? null : x;
    this.overlay();
    showTip(px, py, rows);
  }
  drawOver(g) {
    if (this.mark === null || this.mark === undefined) return;
    g.strokeStyle = colour("ink");
    g.globalAlpha = .5;
    g.beginPath(); g.moveTo(Math.round(this.mark) + .5, 48); g.lineTo(Math.round(this.mark) + .5, this.h - 24); g.stroke();
    g.globalAlpha = 1;
  }
}

let waveform = null;
const kept = new Map(D.seconds.map((s, i) => [s.second, i]));
function describe(s) {
  let pause = 0, n = 0;
  for (let i = 0; i + 5 <= s.stops.length; i += 5) { if (s.stops[i] === 0) n++; pause = Math.max(pause, s.stops[i + 2]); }
  return `${s.second} s: ${plural(n, "checkpoint")}, longest stop ${fns(pause * 1e3)}`;
}
function pick(second) {
  const i = kept.get(second);
  if (i === undefined || !waveform) return;
  picked = second;
  const s = D.seconds[i], select = $("second");
  select.value = String(i);
  $("prev").disabled = i === 0;
  $("next").disabled = i === D.seconds.length - 1;
  waveform.show(s);
  let stood = 0, n = 0;
  for (let k = 0; k + 5 <= s.stops.length; k += 5) { stood += s.stops[k + 2]; n++; }
  const skipped = waveform.skips.reduce((a, k) => a + k[1], 0);
  $("f-wave").textContent = `Second ${s.second}: ${plural(n, "stop")}, ${fns(stood * 1e3)} of standing still (${fpct(stood / US)})` +
    (s.faults.length ? `, ${plural(s.faults.length / 2, "fault")} seen` : "") + (skipped ? `, ${plural(skipped, "tick")} not taken` : "") + "." +
    (waveform.whole && s.stops.length ? " Single threads were not recorded; the stop as a whole stands for all." : "") +
    (s.dropped ? ` ${plural(s.dropped, "event")} left out for lack of room.` : "");
  if (ready) for (const c of all) if (c instanceof TimeChart) c.overlay();
}
function pickTime(t) {
  if (!D.seconds.length) return;
  const wanted = Math.floor(t / 1e9);
  let best = D.seconds[0].second;
  for (const s of D.seconds) if (Math.abs(s.second - wanted) < Math.abs(best - wanted)) best = s.second;
  pick(best);
  if (best !== wanted) $("f-wave").textContent += ` (Second ${wanted} is not in this page: still report … --second ${wanted} puts it in.)`;
}
function wave() {
  if (!D.seconds.length) { empty($("c-wave"), "No checkpoint yet."); return; }
  const bar = $("b-wave"), select = el("select");
  select.id = "second";
  select.setAttribute("aria-label", "Second shown");
  D.seconds.forEach((s, i) => { const o = el("option", "", describe(s)); o.value = String(i); select.append(o); });
  select.addEventListener("change", () => pick(D.seconds[+select.value].second));
  const button = (id, text, label, run) => { const b = el("button", "", text); b.type = "button"; b.id = id; b.setAttribute("aria-label", label); b.addEventListener("click", run); return b; };
  const by = (d) => () => { const i = +select.value + d; if (D.seconds[i]) pick(D.seconds[i].second); };
  add(bar, button("prev", "‹", "Second before", by(-1)), select, button("next", "›", "Next second", by(1)), el("span", "grow"),
    button("in", "+", "Zoom in", () => waveform.zoom(.5)), button("out", "−", "Zoom out", () => waveform.zoom(2)), button("all", "whole second", "Show the whole second", () => waveform.view(0, US)));
  waveform = new Wave($("c-wave"));
  const any = (k) => D.seconds.some((s) => s.stops.some((v, i) => i % 5 === 0 && v === k));
  const items = [["running", "run"]];
  KINDS.forEach((name, k) => { if (k === 0 || any(k)) items.push([k ? name : "stopped at the boundary", "s" + k]); });
  if (D.seconds.some((s) => s.faults.length)) items.push(["faults (small ticks below)", "ink"]);
  if (D.seconds.some((s) => s.skips.length)) items.push(["tick not taken (triangle)", "bad"]);
  legend("l-wave", items);
  // First shown: the one asked for, else the one with the longest stop that is not the full checkpoint's.
  const full = new Set(D.special.filter((s) => s.marks.includes("full")).map((s) => s.id));
  let best = D.seconds[0], worst = -1;
  for (const s of D.seconds) for (let i = 0; i + 5 <= s.stops.length; i += 5) if (!full.has(s.stops[i + 4]) && s.stops[i + 2] > worst) { worst = s.stops[i + 2]; best = s; }
  pick(D.second !== null && kept.has(D.second) ? D.second : best.second);
}
