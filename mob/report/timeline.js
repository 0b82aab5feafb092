// A lane for each session, drawn on a canvas: only what is seen costs anything.

class Timeline {
  constructor(open) {
    this.open = open;
    this.lanes = [];
    this.row = 20;
    this.from = 0;
    this.to = Math.max(1, D.length_us);
    this.hot = null;
    this.canvas = el("canvas", { tabindex: "0", role: "img",
      "aria-label": "Timeline of all lanes. Plus and minus zoom, arrows move, 0 shows all, Enter opens the turn under the cursor. Transcripts say the same in words." });
    this.spacer = el("div", { class: "spacer" });
    this.box = el("div", { class: "lanes" }, this.canvas, this.spacer);
    this.tip = el("div", { class: "tip", role: "status" });
    this.tip.hidden = true;
    document.body.append(this.tip);
    this.kinds = D.kinds;
    this.tools = this.bar();
    this.listen();
  }

  bar() {
    const button = (text, label, act) => el("button", { type: "button", "aria-label": label, onclick: act }, text);
    const key = (name, text, form = "") => {
      const patch = el("i");
      patch.style.background = `var(--${name})`;
      return el("span", { class: "key" + form }, patch, text);
    };
    return el("div", { class: "bar" },
      button("+", "Zoom in", () => this.zoom(0.5)), button("−", "Zoom out", () => this.zoom(2)),
      button("◀", "Earlier", () => this.pan(-0.4)), button("▶", "Later", () => this.pan(0.4)),
      button("All", "Show everything", () => this.fit()),
      key("model", "model"), key("tool", "tool"), key("work", "model and tools"), key("wait", "queued"),
      key("retry", "retry"), key("approval", "approval"), key("restart", "crash, restart"), key("bad", "failed", " line"));
  }

  show(lanes) {
    this.lanes = lanes;
    this.spacer.style.height = this.top() + lanes.length * this.row + 4 + "px";
    this.resize();
  }

  top() { return 22; }

  resize() {
    const width = this.box.clientWidth;
    const height = Math.min(512, this.top() + this.lanes.length * this.row + 4);
    this.box.style.height = height + 2 + "px";
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    this.canvas.style.width = width + "px";
    this.canvas.style.height = height + "px";
    this.scale = scale;
    this.width = width;
    this.tall = height;
    this.label = Math.min(190, Math.floor(width * 0.28));
    this.draw();
  }

  x(us) { return this.label + ((us - this.from) / (this.to - this.from)) * (this.width - this.label); }
  us(x) { return this.from + ((x - this.label) / (this.width - this.label)) * (this.to - this.from); }

  later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  draw() {
    const g = this.canvas.getContext("2d");
    const paint = {};
    for (const name of ["panel", "ink", "soft", "line", "bad", "accent", "wait", ...this.kinds]) paint[name] = color(name);
    g.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    g.fillStyle = paint.panel;
    g.fillRect(0, 0, this.width, this.tall);
    const first = Math.floor(this.box.scrollTop / this.row);
    const last = Math.min(this.lanes.length, first + Math.ceil(this.tall / this.row) + 1);
    g.font = "12px system-ui, sans-serif";
    g.textBaseline = "middle";
    g.save();
    g.beginPath();
    g.rect(0, this.top(), this.width, this.tall);
    g.clip();
    for (let place = first; place < last; place++) this.lane(g, paint, place);
    g.restore();
    this.axis(g, paint);
  }

  y(place) { return this.top() + place * this.row - this.box.scrollTop; }

  lane(g, paint, place) {
    const lane = this.lanes[place], y = this.y(place), tall = this.row - 6;
    g.fillStyle = paint.line;
    g.fillRect(0, y + this.row - 1, this.width, 0.5);
    g.save();
    g.beginPath();
    g.rect(this.label, 0, this.width, this.tall);
    g.clip();
    const own = turnsOf[lane];
    let done = -1; // pixels up to here are drawn: a thousand turns in one pixel are one
    for (let at = this.firstOf(own); at < own.length; at++) {
      const turn = D.turns[own[at]], start = turn[TURN.start];
      if (start - turn[TURN.wait] > this.to) break;
      const right = this.x(start + turn[TURN.length]);
      if (right < done + 0.5 && turn[TURN.outcome] !== 1) continue;
      if (turn[TURN.wait]) {
        const left = this.x(start - turn[TURN.wait]);
        g.fillStyle = paint.wait;
        g.fillRect(left, y + this.row - 4, Math.max(0.5, this.x(start) - left), 2);
      }
      this.pieces(g, paint, turn, y + 3, tall);
      if (turn[TURN.outcome] === 1 || turn[TURN.outcome] === 3) {
        g.fillStyle = paint.bad;
        g.fillRect(Math.max(right - 2, this.x(start)), y + 1, 2, tall + 4);
      }
      if (this.hot === own[at]) {
        g.strokeStyle = paint.ink;
        g.strokeRect(this.x(start) - 1, y + 2, Math.max(2, right - this.x(start)) + 2, tall + 2);
      }
      done = right;
    }
    g.restore();
    const depth = D.lanes[lane][LANE.parent] >= 0 ? 12 : 0;
    g.save();
    g.beginPath();
    g.rect(0, y, this.label - 6, this.row);
    g.clip();
    g.fillStyle = depth ? paint.soft : paint.ink;
    g.fillText(D.lanes[lane][LANE.name], 6 + depth, y + this.row / 2);
    g.restore();
  }

  pieces(g, paint, turn, y, tall) {
    const all = turn[TURN.pieces], start = turn[TURN.start];
    for (let at = 0; at < all.length; at += PIECE) {
      const left = this.x(start + all[at + 1]);
      const right = Math.max(left + 1, this.x(start + all[at + 1] + all[at + 2]));
      if (right < this.label || left > this.width) continue;
      const kind = this.kinds[all[at]];
      g.fillStyle = paint[kind];
      const thin = kind === "retry" || kind === "approval";
      g.fillRect(left, thin ? y + tall / 3 : y, right - left, thin ? tall / 3 : tall);
      if (all[at + 4] || kind === "restart") { // it failed, or the crash is where this begins
        g.fillStyle = paint.bad;
        if (kind === "restart") g.fillRect(left - 1, y - 2, 3, tall + 4);
        else g.fillRect(left, y + tall - 3, right - left, 3);
      }
    }
  }

  // The first turn of a lane that may reach into what is shown: of one lane they follow each other.
  firstOf(own) {
    let low = 0, high = own.length;
    while (low < high) {
      const middle = (low + high) >> 1, turn = D.turns[own[middle]];
      if (turn[TURN.start] + turn[TURN.length] < this.from) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  axis(g, paint) {
    g.fillStyle = paint.panel;
    g.fillRect(0, 0, this.width, this.top());
    g.fillStyle = paint.soft;
    const span = this.to - this.from, many = Math.max(2, Math.floor((this.width - this.label) / 110));
    let step = 10 ** Math.floor(Math.log10(span / many));
    for (const factor of [2, 5, 10]) if (span / step > many) step = 10 ** Math.floor(Math.log10(span / many)) * factor;
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) {
      const x = this.x(at);
      g.fillRect(x, this.top() - 5, 1, 5);
      g.fillText("+" + duration(Math.round(at)), x + 3, this.top() / 2 - 1);
    }
    g.fillText(clock(this.from), 6, this.top() / 2 - 1);
    g.fillRect(0, this.top() - 1, this.width, 0.5);
  }

  zoom(factor, around) {
    const middle = around === undefined ? (this.from + this.to) / 2 : around;
    const least = Math.min(20, D.length_us), most = D.length_us * 1.2 + 20;
    const span = Math.min(most, Math.max(least, (this.to - this.from) * factor));
    const part = (middle - this.from) / (this.to - this.from);
    this.from = middle - span * part;
    this.to = this.from + span;
    this.later();
  }

  pan(part) {
    const by = (this.to - this.from) * part;
    this.from += by;
    this.to += by;
    this.later();
  }

  fit() { this.from = -D.length_us * 0.01; this.to = D.length_us * 1.01 + 1; this.later(); }

  // The turn under a point of the canvas, and the piece of it: [turn, piece or -1].
  at(x, y) {
    const place = Math.floor((y - this.top() + this.box.scrollTop) / this.row);
    if (x < this.label || y < this.top() || place < 0 || place >= this.lanes.length) return null;
    const us = this.us(x), slack = ((this.to - this.from) / Math.max(1, this.width)) * 2;
    for (const index of turnsOf[this.lanes[place]].slice(this.firstOf(turnsOf[this.lanes[place]]))) {
      const turn = D.turns[index], since = us - turn[TURN.start];
      if (since < -turn[TURN.wait] - slack) break;
      if (since > turn[TURN.length] + slack) continue;
      const all = turn[TURN.pieces];
      for (let at = 0; at < all.length; at += PIECE) {
        if (since >= all[at + 1] - slack && since <= all[at + 1] + all[at + 2] + slack) return [index, at];
      }
      return [index, -1];
    }
    return null;
  }

  describe([index, at]) {
    const turn = D.turns[index], all = turn[TURN.pieces];
    const lines = [`${D.lanes[turn[TURN.lane]][LANE.path]}, turn ${turn[TURN.number]}: ${OUTCOMES[turn[TURN.outcome]]}, ${duration(turn[TURN.length])}`];
    if (at >= 0) lines.push(`${this.kinds[all[at]]} ${D.labels[all[at + 3]]}: ${duration(all[at + 2])}${all[at + 4] ? " (failed)" : ""}`);
    if (turn[TURN.wait]) lines.push(`queued ${duration(turn[TURN.wait])} before`);
    lines.push(`${count(turn[TURN.input])} tokens in, ${count(turn[TURN.output])} out; at ${clock(turn[TURN.start])}`);
    if (turn[TURN.error]) lines.push(turn[TURN.error].slice(0, 300));
    return lines.join("\n");
  }

  listen() {
    const canvas = this.canvas;
    let drag = null, moved = false;
    canvas.addEventListener("pointerdown", (event) => { drag = event.clientX; moved = false; });
    canvas.addEventListener("pointermove", (event) => {
      if (drag !== null && event.buttons) {
        const by = event.clientX - drag;
        if (Math.abs(by) > 3 || moved) {
          moved = true;
          drag = event.clientX;
          this.pan(-by / Math.max(1, this.width - this.label));
          return;
        }
      }
      const found = this.at(event.offsetX, event.offsetY);
      this.point(found, event.clientX, event.clientY);
    });
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("pointerup", (event) => {
      const found = moved ? null : this.at(event.offsetX, event.offsetY);
      drag = null;
      if (found) this.open(found[0]);
      else if (!moved && event.offsetX < this.label) {
        const place = Math.floor((event.offsetY - this.top() + this.box.scrollTop) / this.row);
        if (place >= 0 && place < this.lanes.length) this.open(null, this.lanes[place]);
      }
    });
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || event.metaKey) this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.us(event.offsetX));
      else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan((event.deltaX || event.deltaY) / 800);
      else return;
      event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const acts = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.fit(),
        ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2),
        ArrowDown: () => { this.box.scrollTop += this.row * 3; }, ArrowUp: () => { this.box.scrollTop -= this.row * 3; },
        Enter: () => { if (this.hot !== null) this.open(this.hot); } };
      if (!(event.key in acts)) return;
      acts[event.key]();
      event.preventDefault();
    });
    this.box.addEventListener("scroll", () => this.later());
    new ResizeObserver(() => { if (this.box.clientWidth !== this.width) this.resize(); }).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.later());
    printing.addEventListener("change", () => this.resize());
  }

  point(found, x, y) {
    const hot = found ? found[0] : null;
    if (hot !== this.hot) { this.hot = hot; this.later(); }
    this.tip.hidden = !found;
    if (!found) return;
    this.tip.replaceChildren(el("pre", {}, this.describe(found)));
    this.tip.style.left = Math.min(x + 14, innerWidth - this.tip.offsetWidth - 8) + "px";
    this.tip.style.top = Math.min(y + 14, innerHeight - this.tip.offsetHeight - 8) + "px";
  }
}
