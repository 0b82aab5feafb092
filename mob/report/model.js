// What is in the document (mob/report/document.py): the places of the arrays, and how values read.

const D = JSON.parse(document.getElementById("data").textContent);
const LANE = { name: 0, path: 1, profile: 2, parent: 3, status: 4, turns: 5, input: 6, output: 7, cost: 8,
  unpriced: 9, total: 10, restarts: 11, below: 12, session: 13 };
const TURN = { lane: 0, seq: 1, number: 2, start: 3, length: 4, wait: 5, outcome: 6, input: 7, output: 8,
  cost: 9, pieces: 10, error: 11 };
const PIECE = 5; // numbers of a piece: kind, beginning, length, label, whether it failed
const OUTCOMES = ["completed", "failed", "interrupted", "over budget", "in flight"];

// The turns of each lane by number in D.turns, oldest first.
const turnsOf = D.lanes.map(() => []);
const turnOfSeq = new Map();
D.turns.forEach((turn, index) => {
  turnsOf[turn[TURN.lane]].push(index);
  if (turn[TURN.seq] !== null) turnOfSeq.set(turn[TURN.seq], index);
});
for (const own of turnsOf) own.sort((a, b) => D.turns[a][TURN.start] - D.turns[b][TURN.start]);

const childrenOf = D.lanes.map(() => []);
D.lanes.forEach((lane, index) => { if (lane[LANE.parent] >= 0) childrenOf[lane[LANE.parent]].push(index); });

function count(number) {
  if (number < 1000) return String(number);
  const [unit, size] = [["k", 1e3], ["M", 1e6], ["G", 1e9]].find(([unit, size]) => number < 999.5 * size || unit === "G");
  return (number / size).toFixed(number < 9.95 * size ? 1 : 0) + unit;
}

function turns(number) { return `${count(number)} ${number === 1 ? "turn" : "turns"}`; }

function money(nano) {
  const usd = nano / 1e9;
  return "$" + (usd >= 1 || usd === 0 ? usd.toFixed(2) : usd.toPrecision(2));
}

function duration(us) {
  if (us < 1000) return us + " µs";
  if (us < 1e6) return (us / 1000).toFixed(us < 1e4 ? 1 : 0) + " ms";
  const seconds = us / 1e6;
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 2 : 1) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes + " min " + Math.floor(seconds % 60) + " s";
  return Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

// By how much the clock where the reader is differs from UTC: UTC, UTC+2, UTC-3:30.
function zone() {
  const minutes = -new Date(D.t0_us / 1000).getTimezoneOffset(), rest = Math.abs(minutes) % 60;
  if (!minutes) return "UTC";
  return `UTC${minutes > 0 ? "+" : "-"}${Math.floor(Math.abs(minutes) / 60)}${rest ? ":" + String(rest).padStart(2, "0") : ""}`;
}

// A moment, as time of the day where the reader is; with the date where it matters.
function clock(us) {
  const when = new Date((D.t0_us + us) / 1000);
  const day = D.length_us > 86400e6 ? when.toLocaleDateString() + " " : "";
  return day + when.toLocaleTimeString([], { hour12: false });
}
