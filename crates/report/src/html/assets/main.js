// Puts it together.
const themed = [];
function head() {
  const s = F.subject, c = F.checkpoints;
  const line = s.arguments.length ? s.arguments.map((a) => shell(tame(a))).join(" ") : tame(s.program) || "A recording";
  $("title").textContent = line.length > 300 ? line.slice(0, 299) + "…" : line;
  document.title = (line.length > 60 ? line.slice(0, 59) + "…" : line) + " · stillframe report";
  const began = s.started_wall_ns ? new Date(s.started_wall_ns / 1e6).toISOString().replace("T", " ").slice(0, 19) + " UTC" : "unknown";
  const state = s.how !== null ? tame(s.how) : s.live ? "still being recorded" : "not ended: its recorder was killed";
  $("subtitle").textContent = [`pid ${s.pid}`, began, fns(c.runtime_ns), `tracker ${tame(s.tracker)}`, `Linux ${tame(s.kernel)}`, state].join(" · ");
  const notice = (text, cls) => add($("notices"), el("p", "notice " + (cls || ""), tame(text)));
  for (const d of s.damage) notice("Damage: " + d, "bad");
  for (const n of s.notes) notice(n);
  if (c.unreadable) notice(`${plural(c.unreadable, "account")} could not be read and is not in the figures.`, "bad");
  if (c.count && !c.accounts) notice("This recording has no event accounts: stalls of single threads, heat, copies and repeated pages are not known.");
  $("foot").textContent = `Made by stillframe ${D.version} from ${tame(s.recording)}. ` +
    (N && !D.single ? `Each point of the charts over time stands for about ${fint(c.count / N)} checkpoints; maxima are those of single checkpoints.` : "");
}
function tiles() {
  const b = F.pause.boundary, p = F.pages, r = F.rate, c = F.checkpoints;
  const tile = (k, v, unit, s) => {
    const value = el("div", "v", v);
    if (unit) add(value, " ", el("small", "", unit));
    add($("tiles"), add(el("div", "tile"), el("div", "k", k), value, el("div", "s", s)));
  };
  const split = (text) => { const i = text.lastIndexOf("\u00a0"); return i < 0 ? [text, ""] : [text.slice(0, i), text.slice(i + 1)]; };
  tile("Checkpoints", fint(c.count), "", c.runtime_ns ? `in ${fns(c.runtime_ns)}` + (c.threads_max > 1 ? `, up to ${c.threads_max} threads` : "") : "");
  if (r.reached_hz !== null) tile("Rate reached", ...split(fhz(r.reached_hz)), `of ${fhz(r.asked_hz)} asked; ${fint(r.skipped)} skipped`);
  if (b.count) tile("Pause, median", ...split(fns(b.p50)), `p99 ${fns(b.p99)}, max ${fns(b.max)}`);
  if (c.runtime_ns) {
    tile("Stood still", ...split(fpct(F.stall.share)), "of the run time, measured");
    tile("Finding writes", ...split("≈ " + fpct(F.tracking.share)), "of the run time, estimated");
  }
  if (c.count) tile("Recording", ...split(fbytes(p.stored_bytes)), `for ${fbytes(p.raw_bytes)} of pages` + (p.ratio_steady ? `, ${fnum(p.ratio_steady)} to 1` : ""));
}
for (const part of [head, tiles, pauses, rate, flow, heat, wave, cost, cells, work, bookmarks, special]) part();

function everything() { ready = true; colours = {}; for (const c of all) c.redraw(); for (const t of themed) t(); }
everything();
let width = innerWidth, due = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  cancelAnimationFrame(due);
  due = requestAnimationFrame(everything);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", everything);
addEventListener("keydown", (e) => { if (e.key === "Escape") hideTip(); });
addEventListener("scroll", hideTip, { passive: true });
