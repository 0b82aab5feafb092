// What was said: a session at a time, so many turns at a time; and searching in all of it.

const TURNS_AT_ONCE = 20;
const HITS = 200;

class Transcripts {
  constructor(section) {
    this.lane = null;
    this.list = new VirtualList("Sessions", 26, (row, lane) => this.fill(row, lane), (lane) => this.show(lane));
    this.pane = el("div", { class: "pane", tabindex: "0", "aria-label": "Transcript", "aria-live": "polite" });
    this.search = el("input", { type: "search", placeholder: "Search what was said", "aria-label": "Search what was said", autocomplete: "off" });
    this.found = el("span", { class: "soft", role: "status" });
    let timer = null;
    this.search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => this.look(), 200); });
    this.search.addEventListener("keydown", (event) => { if (event.key === "Enter") this.look(); });
    const left = D.left_out.transcripts || 0;
    section.append(
      el("div", { class: "bar" }, this.search, this.found,
        left ? el("span", { class: "soft" }, `The words of the oldest ${left.toLocaleString()} turns are left out: mob show has them.`) : null),
      el("div", { class: "two" }, this.list.box, this.pane));
  }

  fill(row, lane) {
    const known = D.lanes[lane];
    const name = el("span", { class: "name" }, known[LANE.path]);
    row.append(name, el("span", { class: "soft num" }, turns(known[LANE.turns])));
  }

  lanes(lanes) {
    this.list.show(lanes);
    if (this.search.value.trim()) this.look();
    if (this.lane === null && lanes.length) this.show(lanes.find((lane) => turnsOf[lane].length) ?? lanes[0]);
  }

  // Show a lane from a turn on (its number in D.turns), or from its beginning.
  show(lane, from, words) {
    this.lane = lane;
    const own = turnsOf[lane], at = from === undefined ? 0 : Math.max(0, own.indexOf(from));
    this.pane.replaceChildren(el("h3", {}, D.lanes[lane][LANE.path],
      el("span", { class: "soft" }, ` ${D.lanes[lane][LANE.profile]}, ${D.lanes[lane][LANE.status]}`)));
    this.pane.scrollTop = 0;
    if (!own.length) this.pane.append(el("p", { class: "soft" }, "Nothing was said here."));
    if (at) this.pane.append(el("button", { type: "button", onclick: () => this.show(lane, own[Math.max(0, at - TURNS_AT_ONCE)]) }, `Earlier turns (${at})`));
    const turns = el("div");
    const button = more(turns, own.slice(at), TURNS_AT_ONCE, (index) => this.turn(index, index === from, words));
    this.pane.append(turns, button);
    const place = this.list.items.indexOf(lane);
    if (place >= 0) this.list.select(place);
  }

  turn(index, here, words) {
    const turn = D.turns[index], outcome = turn[TURN.outcome];
    const spent = `${count(turn[TURN.input])} in, ${count(turn[TURN.output])} out`;
    const head = el("div", { class: "soft" },
      el("strong", { class: outcome === 1 || outcome === 3 ? "bad" : null }, `Turn ${turn[TURN.number]}: ${OUTCOMES[outcome]}`),
      ` ${clock(turn[TURN.start])}, ${duration(turn[TURN.length])}, ${spent}` + (turn[TURN.seq] ? `, record ${turn[TURN.seq]}` : ""));
    const made = el("div", { class: "turn" + (here ? " here" : "") }, head);
    if (turn[TURN.error]) made.append(el("pre", { class: "bad" }, turn[TURN.error]));
    const said = D.texts[index];
    if (said === null) made.append(el("p", { class: "soft" }, "The words are left out of this file; mob show has them."));
    for (const message of said || []) made.append(this.message(message, words));
    return made;
  }

  message([role, who, text, more], words) {
    const failed = role === "tool" && more ? ` (${more})` : "";
    const made = el("div", { class: "message " + role },
      el("div", { class: "who" + (failed ? " bad" : "") }, role + (who ? " " + who : "") + failed));
    if (text) made.append(el("pre", {}, ...marked(text, words)));
    if (role === "assistant") {
      for (const [name, given] of more) made.append(el("pre", { class: "soft" }, ...marked(`→ ${name} ${given}`, words)));
    }
    return made;
  }

  look() {
    const words = this.search.value.trim().toLowerCase();
    if (!words) { this.found.textContent = ""; if (this.lane !== null) this.show(this.lane); return; }
    const hits = [], among = new Set(this.list.items);
    let all = 0;
    D.texts.forEach((said, index) => {
      if (!among.has(D.turns[index][TURN.lane])) return;
      for (const message of said || []) {
        const calls = message[0] === "assistant" ? message[3].map((call) => call.join(" ")).join("\n") : "";
        const text = calls ? message[2] + "\n" + calls : message[2];
        const at = text.toLowerCase().indexOf(words);
        if (at < 0) continue;
        all++;
        if (hits.length < HITS) hits.push([index, message[0], text.slice(Math.max(0, at - 80), at + words.length + 160)]);
      }
    });
    this.found.textContent = `${all.toLocaleString()} ${all === 1 ? "message" : "messages"}` + (all > HITS ? `, the first ${HITS} shown` : "");
    const made = hits.map(([index, role, snippet]) => {
      const turn = D.turns[index];
      return el("div", { class: "message " + role },
        el("button", { type: "button", class: "link", onclick: () => this.show(turn[TURN.lane], index, words) },
          `${D.lanes[turn[TURN.lane]][LANE.path]}, turn ${turn[TURN.number]}, ${role}`),
        el("pre", {}, ...marked(snippet, words)));
    });
    if (!all) made.push(el("p", { class: "soft" }, "Nobody who is shown said that."));
    this.pane.replaceChildren(el("h3", {}, "Found"), ...made);
    this.pane.scrollTop = 0;
  }
}

// A text in pieces, of which those that were looked for are marked.
function marked(text, words) {
  if (!words) return [text];
  const parts = [], low = text.toLowerCase();
  let done = 0;
  for (let at = low.indexOf(words); at >= 0 && parts.length < 400; at = low.indexOf(words, done)) {
    parts.push(text.slice(done, at), el("mark", {}, text.slice(at, at + words.length)));
    done = at + words.length;
  }
  return [...parts, text.slice(done)];
}
