// Rate reached, pages written, bytes kept.
const REASONS = ["late", "store", "not stopped", "budget", "reason not recorded"];
const REASON_COLOURS = ["s1", "s2", "p6", "p4", "s3"];

function rate() {
  const r = F.rate, S = D.slices, length = D.span.end_ns - D.span.start_ns;
  const skips = [r.late, r.store, r.not_stopped, r.budget, r.unexplained];
  if (r.reached_hz === null || !length) {
    empty($("c-rate"), "A rate needs two checkpoints.");
    return;
  }
  const share = r.asked_hz > 0 ? r.reached_hz / r.asked_hz : 1;
  $("f-rate").textContent = `${fhz(r.reached_hz)} reached of ${fhz(r.asked_hz)} asked (${fpct(share)}). ` +
    (r.skipped ? `${plural(r.skipped, "tick")} not taken: ` + skips.map((n, i) => n ? `${fint(n)} ${REASONS[i]}` : "").filter(Boolean).join(", ") + "." : "No tick was skipped.");
  const each = length / S.length, hz = S.map((s) => s.made / each * 1e9);
  const lost = S.map((s) => s.skipped.reduce((a, b) => a + b, 0));
  const top = Math.max(r.asked_hz, most(hz)) * 1.12;
  const X0 = (i) => D.span.start_ns + i * each;
  const panels = [{
    weight: 5, min: 0, max: top, format: (v) => fnum(v) + " Hz", title: "checkpoints per second",
    draw(g, X, Y, box) {
      g.beginPath();
      g.moveTo(X(X0(0)), box.b);
      hz.forEach((v, i) => { g.lineTo(X(X0(i)), Y(v)); g.lineTo(X(X0(i + 1)), Y(v)); });
      g.lineTo(X(X0(hz.length)), box.b);
      g.globalAlpha = .55; g.fillStyle = colour("area"); g.fill(); g.globalAlpha = 1;
      g.beginPath();
      hz.forEach((v, i) => { g.lineTo(X(X0(i)), Y(v)); g.lineTo(X(X0(i + 1)), Y(v)); });
      g.strokeStyle = colour("accent"); g.lineWidth = 1.5; g.stroke();
      g.setLineDash([6, 4]); g.strokeStyle = colour("ink"); g.lineWidth = 1.2;
      g.beginPath(); g.moveTo(box.l, Y(r.asked_hz)); g.lineTo(box.r, Y(r.asked_hz)); g.stroke();
      g.setLineDash([]);
    },
  }];
  const told = most(lost) > 0;
  if (told) panels.push({
    weight: 2, min: 0, max: most(lost) * 1.1, format: fnum, title: "ticks not taken",
    draw(g, X, Y) {
      S.forEach((s, i) => {
        let sum = 0;
        s.skipped.forEach((n, k) => {
          if (!n) return;
          const y0 = Y(sum), y1 = Y(sum += n);
          g.fillStyle = colour(REASON_COLOURS[k]);
          g.fillRect(X(X0(i)), Math.min(y1, y0 - 1), Math.max(1.5, X(X0(i + 1)) - X(X0(i)) - .5), Math.max(1, y0 - y1));
        });
      });
    },
  });
  new TimeChart($("c-rate"), `Checkpoints per second over time: ${fhz(r.reached_hz)} of ${fhz(r.asked_hz)}. Use arrow keys to read values.`, told ? 260 : 180, panels, (t) => {
    const i = Math.max(0, Math.min(S.length - 1, Math.floor((t - D.span.start_ns) / each)));
    const rows = [`${fsec(X0(i), length)} to ${fsec(X0(i + 1), length)}`, ["reached", fhz(hz[i]), "accent"], ["checkpoints", fint(S[i].made)]];
    S[i].skipped.forEach((n, k) => { if (n) rows.push([REASONS[k], plural(n, "tick"), REASON_COLOURS[k]]); });
    return rows;
  });
  const items = [["reached", "accent"], ["asked", "ink", "l d"]];
  skips.forEach((n, k) => { if (n && told) items.push([`not taken: ${REASONS[k]} ${fint(n)}`, REASON_COLOURS[k]]); });
  legend("l-rate", items);
}

function flow() {
  const g0 = F.pages, d = g0.per_checkpoint;
  if (!N) { empty($("c-flow"), F.checkpoints.count ? "Only full checkpoints so far." : "No checkpoint yet."); return; }
  const length = Math.max(1, D.span.end_ns - D.span.start_ns);
  const steadyRaw = P.raw.reduce((a, b) => a + b, 0), steadyStored = P.stored.reduce((a, b) => a + b, 0);
  $("f-flow").textContent = `${fint(d.mean)} pages (${fbytes(d.mean * 4096)}) were found written per checkpoint, ${fint(d.max)} at most. ` +
    `The recording took ${fbytes(g0.stored_bytes)} for ${fbytes(g0.raw_bytes)} of pages` +
    (g0.ratio_steady ? `; without full checkpoints 1 byte for ${fnum(g0.ratio_steady)}, ${fbytes(steadyStored / (length / 1e9))} per second of run time.` : ".");
  const mean = P.dirty.map((v, i) => v / P.n[i]), raw = P.raw.map((v, i) => v / P.n[i]), stored = P.stored.map((v, i) => v / P.n[i]);
  const high = Math.max(most(raw), most(stored), 2);
  const low = Math.max(1, Math.min(quantile(raw, .02), quantile(stored, .02)) * .6, high / 1e7);
  // One burst must not flatten the rest, yet must show.
  const wild = d.max > 12 * Math.max(1, d.p50);
  new TimeChart($("c-flow"), `Pages and bytes over time: ${fint(d.mean)} pages per checkpoint, ${fbytes(g0.stored_bytes)} stored. Use arrow keys to read values.`, 330, [
    {
      weight: 1, log: wild, min: wild ? 1 : 0, max: Math.max(d.max * 1.08, 1), format: fnum,
      title: "pages written per checkpoint" + (wild ? " (logarithmic)" : ""),
      draw(g, X, Y, box) {
        steps(g, X, Y, box, mean, "area", null);
        steps(g, X, Y, box, P.dirty_max, null, "accent", 1.2);
        marked(g, X, box);
      },
    },
    {
      weight: 1, log: true, base: 2, min: Math.pow(2, Math.floor(Math.log2(low))), max: high * 1.6, format: fbytes, title: "bytes per checkpoint (logarithmic)",
      draw(g, X, Y, box) {
        steps(g, X, Y, box, raw, null, "dim", 1.3);
        g.globalAlpha = .5; steps(g, X, Y, box, stored, "area2", null); g.globalAlpha = 1;
        steps(g, X, Y, box, stored, null, "line2", 1.4);
        marked(g, X, box);
      },
    },
  ], (t) => {
    const i = pointAt(t);
    const rows = [heading(i), ["pages written", fint(mean[i]), "area"]];
    if (P.n[i] > 1) rows.push(["at most", fint(P.dirty_max[i]), "accent"]);
    if (P.precopied[i]) rows.push(["of these, copied before the stop", fint(P.precopied[i] / P.n[i])]);
    if (P.conflicts[i]) rows.push(["conflicts", fint(P.conflicts[i])]);
    rows.push(["bytes of pages", fbytes(raw[i]), "dim"], ["bytes stored", fbytes(stored[i]), "line2"]);
    if (stored[i] > 0) rows.push(["saved", fnum(raw[i] / stored[i]) + " to 1"]);
    return rows;
  });
  legend("l-flow", [["pages, average", "area"], ["pages, most", "accent", "l"], ["bytes of pages", "dim", "l"], ["bytes stored", "line2", "l"]]);
}
