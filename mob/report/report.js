// The page: sections filled from the document, one filter over all of them.

function say(severity, title) {
  const all = D.errors[severity];
  if (!all.length) return null;
  const body = el("tbody");
  const button = more(body, all, severity ? 5 : 12, ([at, lane, what, why, seq]) => {
    const index = seq === null ? undefined : turnOfSeq.get(seq);
    const who = lane < 0 ? el("span", {}, "mob") :
      el("button", { class: "link", type: "button", onclick: () => open(index ?? null, lane) }, D.lanes[lane][LANE.path]);
    return el("tr", {}, el("td", { class: "soft" }, clock(at)), el("td", {}, who),
      el("td", { class: severity ? "warn" : "bad" }, what), el("td", {}, why.length > 400 ? why.slice(0, 400) + "…" : why));
  });
  const total = D.summary[severity ? "warnings" : "errors"];
  const kept = total > all.length ? `, the latest ${all.length.toLocaleString()} of them here` : "";
  return [el("h3", {}, `${title} (${total.toLocaleString()}${kept})`), el("div", { class: "wide" }, el("table", { class: "told" }, body)), button];
}

byId("zone").textContent = `times are ${zone()}`;
const found = [say(0, "Errors"), say(1, "Warnings")].filter(Boolean);
if (!D.errors[0].length) byId("errors").append(el("p", { class: "ok" }, found.length ? "No errors." : "Nothing went wrong."));
for (const parts of found) byId("errors").append(...parts);

const transcripts = new Transcripts(byId("transcripts"));

// Open a turn, or a lane from its beginning, among the transcripts.
function open(turn, lane) {
  if (turn !== null && turn !== undefined) transcripts.show(D.turns[turn][TURN.lane], turn);
  else transcripts.show(lane);
  byId("transcripts").scrollIntoView();
  const here = transcripts.pane.querySelector(".here");
  if (here) transcripts.pane.scrollTop = here.offsetTop - transcripts.pane.offsetTop - 8;
  transcripts.pane.focus({ preventScroll: true });
}

const timeline = new Timeline(open);
const left = D.left_out.turns || 0;
byId("timeline").append(timeline.tools, timeline.box,
  el("p", { class: "soft hint" }, "Drag or Shift-wheel to move, Ctrl-wheel to zoom, click a turn to read it."),
  left ? el("p", { class: "soft" }, `The oldest ${left.toLocaleString()} turns are left out here; sums have them.`) : "");

// The tree: members with few below them are open, as long as there are few.
const folded = new Set();
if (D.lanes.length > 60) D.lanes.forEach((lane, index) => { if (childrenOf[index].length) folded.add(index); });
const tree = new VirtualList("Members", 26, (row, lane) => {
  const known = D.lanes[lane];
  let depth = 0;
  for (let at = known[LANE.parent]; at >= 0; at = D.lanes[at][LANE.parent]) depth++;
  const fold = el("span", { class: "fold" }, childrenOf[lane].length ? (folded.has(lane) ? "▸" : "▾") : "");
  fold.addEventListener("click", (event) => { event.stopPropagation(); toggle(lane); });
  fold.style.marginLeft = depth * 1.1 + "rem";
  const bad = ["failed", "quarantined"].includes(known[LANE.status]) ? " bad" : "";
  row.append(fold, el("span", { class: "name" }, known[LANE.name], el("span", { class: "soft profile" }, " " + known[LANE.profile])),
    el("span", { class: "state" + bad }, known[LANE.status]),
    el("span", { class: "num turns" }, turns(known[LANE.turns])), el("span", { class: "num" }, `${count(known[LANE.total])} tok`),
    el("span", { class: "num restarts" + (known[LANE.restarts] ? " warn" : "") }, known[LANE.restarts] ? `${known[LANE.restarts]} ${known[LANE.restarts] === 1 ? "restart" : "restarts"}` : ""));
}, (lane) => open(null, lane), {
  ArrowLeft: (lane) => { if (childrenOf[lane].length && !folded.has(lane)) toggle(lane); },
  ArrowRight: (lane) => { if (folded.has(lane)) toggle(lane); },
});
byId("members").append(tree.box, el("p", { class: "soft hint" }, "Tokens are with those of all below. Enter or a click opens the transcript, ← and → fold."));

function toggle(lane) {
  if (folded.has(lane)) folded.delete(lane);
  else folded.add(lane);
  apply();
}

const filter = byId("filter");

// The lanes that the filter lets through, in the order of the tree; children of those that it does, too.
function shown(byFold) {
  const words = filter.value.trim().toLowerCase(), kept = new Set(), lanes = [];
  D.lanes.forEach((lane, index) => {
    const parent = lane[LANE.parent];
    const fits = !words || (lane[LANE.path] + " " + lane[LANE.profile]).toLowerCase().includes(words) || kept.has(parent);
    if (!fits) return;
    kept.add(index);
    for (let at = parent; byFold && at >= 0; at = D.lanes[at][LANE.parent]) if (folded.has(at)) return;
    lanes.push(index);
  });
  return lanes;
}

function apply() {
  const all = shown(false);
  tree.show(shown(true));
  timeline.show(all);
  transcripts.lanes(all);
}

filter.addEventListener("input", apply);
apply();
timeline.fit();
spending(byId("spending"), (lane) => open(null, lane));
flows(byId("flows"));
