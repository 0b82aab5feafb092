// Plots as SVG: tokens and money over time, who spent them; flows as graphs.

function overTime(title, lines, shown) {
  const width = 640, height = 170, left = 62, bottom = 22;
  const many = lines[0][1].length;
  const stacked = Array.from({ length: many }, (_, at) => lines.reduce((sum, [, values]) => sum + values[at], 0));
  const most = Math.max(...stacked, 1);
  const x = (at) => left + (at / many) * (width - left), y = (value) => height - bottom - (value / most) * (height - bottom - 8);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, width: "100%" });
  const base = new Array(many).fill(0);
  for (const [name, values] of lines) {
    const bars = [];
    values.forEach((value, at) => {
      if (value) bars.push(`M${x(at).toFixed(1)} ${y(base[at]).toFixed(1)}V${y(base[at] + value).toFixed(1)}h${Math.max(1.5, (width - left) / many - 0.4).toFixed(1)}V${y(base[at]).toFixed(1)}z`);
      base[at] += value;
    });
    const path = svg("path", { d: bars.join(""), stroke: "none" });
    path.style.fill = `var(--${name})`;
    plot.append(path);
  }
  plot.append(svg("line", { x1: left, x2: width, y1: height - bottom, y2: height - bottom, class: "axis" }));
  const text = (at, where, words, anchor) => {
    const made = svg("text", { x: at, y: where, "text-anchor": anchor });
    made.textContent = words;
    plot.append(made);
  };
  text(left - 6, 14, shown(most), "end");
  text(left - 6, height - bottom, "0", "end");
  text(left, height - 4, clock(0), "start");
  text(width, height - 4, clock(D.length_us), "end");
  return el("div", {}, el("h3", {}, title), plot);
}

function spending(section, open) {
  const [input, output, cost] = D.series;
  const key = (name, text) => { const i = el("i"); i.style.background = `var(--${name})`; return el("span", { class: "key" }, i, text); };
  section.append(el("div", { class: "bar" }, key("model", "tokens in"), key("tool", "tokens out")));
  const plots = el("div", { class: "plots" }, overTime("Tokens over time, when turns ended", [["model", input], ["tool", output]], count));
  if (cost.some((value) => value)) plots.append(overTime("Cost over time", [["retry", cost]], money));
  section.append(plots);
  const lanes = D.lanes.map((_, index) => index).filter((index) => D.lanes[index][LANE.input] + D.lanes[index][LANE.output]);
  const tokens = (index) => D.lanes[index][LANE.input] + D.lanes[index][LANE.output];
  lanes.sort((a, b) => tokens(b) - tokens(a));
  const most = lanes.length ? tokens(lanes[0]) : 1;
  const body = el("tbody");
  const row = (index) => {
    const lane = D.lanes[index], meter = el("div", { class: "meter" });
    for (const [place, name] of [[LANE.input, "model"], [LANE.output, "tool"]]) {
      const part = el("i");
      part.style.width = (100 * lane[place]) / most + "%";
      part.style.background = `var(--${name})`;
      meter.append(part);
    }
    const priced = lane[LANE.cost] || !lane[LANE.unpriced];
    return el("tr", {},
      el("td", {}, el("button", { class: "link", type: "button", onclick: () => open(index) }, lane[LANE.path])),
      el("td", {}, meter), el("td", { class: "num" }, count(lane[LANE.input])), el("td", { class: "num" }, count(lane[LANE.output])),
      el("td", { class: "num" }, priced ? money(lane[LANE.cost]) : "unpriced"), el("td", { class: "num" }, count(lane[LANE.turns])));
  };
  const head = el("tr", {}, el("th", {}, "session"), el("th", {}, ""), ...["in", "out", "cost", "turns"].map((name) => el("th", { class: "num" }, name)));
  const button = more(body, lanes, 20, row);
  section.append(el("h3", {}, "Tokens by session, its children's not included"), el("div", { class: "wide" }, el("table", {}, el("thead", {}, head), body)), button);
}

const STEP_COLORS = { succeeded: "ok", failed: "bad", cancelled: "warn", skipped: "soft", running: "accent" };

function flowGraph(flow) {
  const wide = 170, tall = 46, gapX = 24, gapY = 40;
  const waves = [];
  for (const step of flow.steps) (waves[step[1]] = waves[step[1]] || []).push(step);
  const most = Math.max(1, ...waves.map((wave) => wave.length));
  const place = new Map();
  waves.forEach((wave, row) => wave.forEach((step, column) => {
    const indent = ((most - wave.length) * (wide + gapX)) / 2;
    place.set(step[0], [indent + column * (wide + gapX) + 4, row * (tall + gapY) + 4]);
  }));
  const width = most * (wide + gapX) + 8, height = waves.length * (tall + gapY);
  const graph = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Graph of flow ${flow.flow}` });
  for (const [from, to] of flow.edges) {
    const [x1, y1] = place.get(from), [x2, y2] = place.get(to);
    const a = x1 + wide / 2, b = x2 + wide / 2, middle = (y1 + tall + y2) / 2;
    const line = svg("path", { d: `M${a} ${y1 + tall}C${a} ${middle} ${b} ${middle} ${b} ${y2}`, fill: "none", "stroke-width": 1.5 });
    line.style.stroke = "var(--soft)";
    graph.append(line);
  }
  for (const [name, , state, attempts, round, seconds, members, error] of flow.steps) {
    const [x, y] = place.get(name);
    const box = svg("rect", { x, y, width: wide, height: tall, rx: 5, "stroke-width": 2 });
    box.style.fill = "var(--bg)";
    box.style.stroke = `var(--${STEP_COLORS[state] || "line"})`;
    const title = svg("title");
    title.textContent = [`${name}: ${state}`, members.join(", "), error || ""].filter(Boolean).join("\n");
    const first = svg("text", { x: x + 8, y: y + 18 }), second = svg("text", { x: x + 8, y: y + 36 });
    first.textContent = name.length > 23 ? name.slice(0, 22) + "…" : name;
    const again = (attempts > 1 ? `, ${attempts} tries` : "") + (round > 1 ? `, round ${round}` : "");
    second.textContent = state + (seconds === null ? "" : ", " + duration(seconds * 1e6)) + again;
    second.style.fill = "var(--soft)";
    graph.append(svg("g", {}, box, first, second, title));
  }
  return el("div", { class: "wide" }, graph);
}

function flows(section) {
  if (!D.flows.length) section.append(el("p", { class: "soft" }, "No flow was run."));
  const made = el("div");
  const button = more(made, D.flows, 5, (flow) => {
    const ended = flow.end === null ? "" : `, ${duration(flow.end - flow.start)}`;
    const kind = STEP_COLORS[flow.state] || "soft";
    const box = el("div", {}, el("h3", {}, `${flow.flow} `, el("span", { class: kind }, flow.state), el("span", { class: "soft" }, ` ${clock(flow.start)}${ended}`)));
    if (flow.error) box.append(el("pre", { class: "bad" }, flow.error));
    box.append(flowGraph(flow));
    return box;
  });
  section.append(made, button);
  if (!D.talk.length) return;
  const body = el("tbody");
  const rest = more(body, D.talk, 15, ([from, to, times]) =>
    el("tr", {}, el("td", {}, from), el("td", {}, "→ " + to), el("td", { class: "num" }, times.toLocaleString())));
  const left = D.left_out.pairs || 0;
  const kept = left ? `, the ${D.talk.length.toLocaleString()} of ${(D.talk.length + left).toLocaleString()} pairs that wrote most` : "";
  section.append(el("h3", {}, `Who wrote to whom${kept}`), el("table", { class: "pairs" }, body), rest);
}
