// Figures in tables.
function table(id, caption, head, rows, classes) {
  const t = $(id);
  t.replaceChildren();
  if (caption) add(t, el("caption", "", caption));
  if (head) {
    const tr = el("tr");
    head.forEach((h, i) => { const th = el("th", (classes && classes[i]) || "", h); th.scope = "col"; add(tr, th); });
    add(t, add(el("thead"), tr));
  }
  const body = el("tbody");
  for (const r of rows) {
    const tr = el("tr");
    r.forEach((v, i) => {
      const cell = i === 0 && !classes ? el("th") : el("td", classes ? classes[i] : i ? "n" : "");
      if (i === 0 && !classes) cell.scope = "row";
      if (v instanceof Node) add(cell, v); else cell.textContent = v;
      add(tr, cell);
    });
    add(body, tr);
  }
  add(t, body);
}
function meter(share) {
  const m = el("span", "m");
  m.style.width = Math.max(0, Math.min(100, share * 100)) + "%";
  return m;
}
const maybe = (v, f) => v === null || v === undefined ? "–" : f(v);

function cost() {
  const s = F.stall, t = F.tracking, o = F.overhead, c = F.checkpoints;
  if (!c.runtime_ns) { $("f-cost").textContent = "Costs are shares of a run time, which takes two checkpoints."; }
  else $("f-cost").textContent = `The program stood still for ${fpct(s.share)} of the time between the first and the last checkpoint; finding its writes cost it about ${fpct(t.share)} more` +
    (o.slowdown ? `: a slowdown of about ${o.slowdown.toFixed(o.slowdown < 1.1 ? 4 : 2)}.` : ".");
  const worst = s.threads[0];
  const rows = [
    ["Run time looked at", fns(c.runtime_ns), "first to last checkpoint", "measured"],
    ["Standing still", fns(s.total_ns), `${fns(s.boundary_ns)} at boundaries, ${fns(s.precopy_ns)} for pre-copy` + (s.other_ns ? `, ${fns(s.other_ns)} otherwise` : "") + `; ${fns(s.first_ns)} of it at the first checkpoint`, "measured"],
    ["Share of run time", fpct(s.share), "without the first checkpoint, which comes before", "measured"],
  ];
  if (worst) rows.push(["Stall of the worst thread", fns(worst.total_ns), `${tame(worst.name) || "thread"} ${worst.tid}, ${plural(worst.stops, "stop")}, ${fns(worst.max_ns)} at most`, "measured"]);
  rows.push(
    ["First writes to protected pages", fint(t.faults), `${maybe(t.per_second, fnum)} per second, ${maybe(t.per_checkpoint, fnum)} per checkpoint`, t.counted ? "counted" : "at most: pages found written"],
    ["Cost of one", fns(t.cost.ns), t.cost.source, "estimate"],
    ["Finding writes", fns(t.total_ns), `${fpct(t.share)} of run time, if one thread made them all`, "estimate"],
    ["Together", fns(o.total_ns), `${fpct(o.share)} of run time` + (o.slowdown ? `, slowdown ${o.slowdown.toFixed(4)}` : ""), "estimate"],
    ["Per checkpoint", maybe(o.stall_per_checkpoint_ns, fns), `stalls; finding writes ${maybe(o.tracking_per_checkpoint_ns, fns)}`, "measured; estimate"],
  );
  table("t-cost", "", ["Overhead", "", "Made of", "Known by"], rows.map((r) => [r[0], r[1], r[2], el("span", "tag", r[3])]), ["", "n", "t", ""]);
  if (s.threads.length) {
    const top = s.threads[0].total_ns || 1, many = new Set(s.threads.map((x) => x.space)).size > 1;
    const more = s.threads_left_out ? `; ${plural(s.threads_left_out, "more thread")} not listed` : "";
    table("t-threads", "Stalls by thread" + more, ["Thread", many ? "Process" : "Id", "Stood still", "Share of its time", "Stops", "Longest", ""],
      s.threads.slice(0, 24).map((x) => [tame(x.name) || "thread", many ? tame(x.process) + " / " + x.tid : String(x.tid), fns(x.total_ns), fpct(x.share), fint(x.stops), fns(x.max_ns), meter(x.total_ns / top)]),
      ["t", many ? "t" : "", "n", "n", "n", "n", "mt"]);
  }
}

function cells() {
  if (!F.cells.length) return;
  const top = F.cells[0].pages, many = new Set(F.cells.map((c) => c.space)).size > 1;
  table("t-cells", "Hottest pieces", ["Mapping", "Addresses", "Pages written", "Checkpoints", "Share", ""],
    F.cells.map((c) => [(many ? tame(c.process) + ": " : "") + tame(c.name) + (c.others ? ` and ${plural(c.others, "other")}` : ""), fhex(c.start) + "–" + fhex(c.end), fint(c.pages), fint(c.checkpoints), fpct(c.share), meter(c.pages / top)]),
    ["t", "a", "n", "n", "n", "mt"]);
}

function work() {
  const p = F.precopy, a = F.after, h = F.hot;
  const accounts = F.checkpoints.accounts > 0;
  const parts = [];
  if (p.stops) parts.push(`Pre-copy kept ${fint(p.kept)} pages out of the stop` + (p.share !== null ? ` (${fpct(p.share)} of all written)` : ""));
  if (a.copied) parts.push(`copying after it took ${fint(a.copied)} more, with ${plural(a.conflicts, "conflict")}`);
  if (h.hit_rate !== null) parts.push(`${fpct(h.hit_rate)} of the pages left unprotected were rightly so`);
  const told = parts.join("; ");
  $("f-work").textContent = told ? told[0].toUpperCase() + told.slice(1) + "." : accounts ? "Everything was copied inside the stops." : "This recording has no account of single copies.";
  table("t-precopy", "", null, [["Stops", fint(p.stops)], ["Time stood for them", fns(p.pause_ns)], ["Pages found", p.found ? fint(p.found) : "–"], ["Kept: not written again", fint(p.kept)], ["Efficiency", maybe(p.efficiency, fpct)], ["Pause per page kept", maybe(p.ns_per_page, fns)]]);
  table("t-after", "", null, [["Pages copied", fint(a.copied)], ["Conflicts", fint(a.conflicts)], ["  repaired from saved content", fint(a.pre_images)], ["Stops to repair", fint(a.repairs)], ["Boundaries given up", fint(a.given_up)], ["Conflicts per page", maybe(a.conflict_rate, fpct)]]);
  table("t-hot", "", null, [["Copied inside the stop", fint(h.copied)], ["Left unprotected", fint(h.unprotected)], ["Hits: a fault saved", fint(h.hits)], ["Misses: a copy for nothing", fint(h.misses)], ["Hit rate", maybe(h.hit_rate, fpct)]]);
  const host = $("c-repeats"), total = F.repeats.reduce((x, y) => x + y, 0);
  if (!total) { empty(host, accounts ? "No page was looked at twice." : "This recording does not say how often pages were written again."); return; }
  new Repeats(host, F.repeats, total);
}
class Repeats extends Canvas {
  constructor(host, list, total) {
    super(host, "Pages by number of looks in one interval that found them written: " + list.map((n, i) => `${i + 1}: ${fint(n)}`).join(", "), 190);
    this.list = list;
    this.total = total;
    this.base.addEventListener("pointermove", (e) => {
      const [x] = this.at(e), i = Math.floor((x - 64) / this.each);
      if (this.list[i] === undefined) { hideTip(); return; }
      showTip(e.clientX, e.clientY, [i ? `found written in ${i + 1} looks` : "found written once", ["pages", fint(this.list[i])], ["share", fpct(this.list[i] / this.total)]]);
    });
    this.base.addEventListener("pointerleave", hideTip);
  }
  draw(g) {
    g.clearRect(0, 0, this.w, this.h);
    const bottom = this.h - 34, max = Math.max(10, most(this.list)), top = 16;
    this.each = Math.min(90, (this.w - 70) / this.list.length);
    const Y = (v) => v < 1 ? bottom : bottom - 3 - (bottom - top - 3) * Math.log(v) / Math.log(max);
    g.textBaseline = "middle"; g.textAlign = "right";
    for (const v of logTicks(1, max)) {
      const y = Math.round(Y(v)) + .5;
      g.strokeStyle = colour("grid"); g.beginPath(); g.moveTo(64, y); g.lineTo(this.w - 4, y); g.stroke();
      g.fillStyle = colour("dim"); g.fillText(fcount(v), 56, y);
    }
    this.list.forEach((n, i) => {
      const x = 64 + i * this.each, y = Y(n);
      g.fillStyle = colour(i ? "s1" : "accent");
      g.globalAlpha = .85;
      if (n) g.fillRect(x + 2, y, Math.max(1, this.each - 4), bottom - y);
      g.globalAlpha = 1;
      g.textAlign = "center"; g.fillStyle = colour("dim"); g.textBaseline = "top";
      if (this.each > 18 || i % 5 === 0) g.fillText(i === 0 ? "once" : i + 1 + "×", x + this.each / 2, bottom + 5);
    });
    g.textAlign = "left";
    g.fillText("looks of one interval that found the page written (pages, logarithmic)", 64, bottom + 20);
  }
}

function special() {
  const full = new Set(D.special.filter((s) => s.marks.length).map((s) => s.id));
  if (!full.size) { $("s-special").hidden = true; return; }
  const shown = D.special.length > 40 ? D.special.slice(0, 20).concat(D.special.slice(-20)) : D.special;
  table("t-special", D.special.length > shown.length ? `The first and last 20 of ${fint(D.special.length)}` : "", ["Checkpoint", "Time", "Why", "Pause", "Pages written", "Stored"],
    shown.map((s) => [String(s.id), fsec(s.at), s.marks.join(", "), fns(s.pause), fint(s.dirty), fbytes(s.stored)]), ["", "n", "", "n", "n", "n"]);
}

function bookmarks() {
  const all = D.bookmarks;
  if (!all.length) { $("s-bookmarks").hidden = true; return; }
  const shown = all.slice(0, 400);
  table("t-bookmarks", all.length > shown.length ? `The first 400 of ${fint(all.length)}` : "", ["Checkpoint", "Time", "Name", "Note"],
    shown.map((b) => [String(b.id), fsec(b.at), tame(b.name), tame(b.note)]), ["", "n", "", ""]);
}
