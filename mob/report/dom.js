// Elements made one by one. Text becomes text nodes and never markup: it is a model's, and hostile.

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const byId = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// Rows of a list that are printed, where all cannot be scrolled to.
const PRINTED = 300;
const printing = matchMedia("print");

// A list of any length of which only what is seen is in the page. Arrows move, Enter opens; `keys`
// are further keys. `fill(row, item, index)` puts an item into its element.
class VirtualList {
  constructor(label, height, fill, open, keys) {
    this.items = [];
    this.active = 0;
    this.height = height;
    this.fill = fill;
    this.open = open;
    this.keys = keys || {};
    this.inner = el("div");
    this.box = el("div", { class: "list", tabindex: "0", role: "listbox", "aria-label": label }, this.inner);
    this.box.addEventListener("scroll", () => this.draw());
    this.box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
    printing.addEventListener("change", () => this.draw());
  }

  show(items) {
    this.items = items;
    this.active = Math.min(this.active, Math.max(0, items.length - 1));
    this.draw();
  }

  draw() {
    const many = printing.matches ? Math.min(this.items.length, PRINTED) : this.items.length;
    this.inner.style.height = many * this.height + "px";
    this.box.style.height = many * this.height + 2 + "px";
    const first = printing.matches ? 0 : Math.max(0, Math.floor(this.box.scrollTop / this.height) - 4);
    const seen = first + Math.ceil((this.box.clientHeight || 400) / this.height) + 8;
    const last = printing.matches ? many : Math.min(many, seen);
    const rows = [];
    for (let index = first; index < last; index++) {
      const id = this.box.getAttribute("aria-label") + "-" + index;
      const row = el("div", { class: "row" + (index === this.active ? " active" : ""), role: "option", id,
        "aria-selected": index === this.active ? "true" : "false",
        onclick: () => { this.active = index; this.draw(); this.open(this.items[index]); } });
      row.style.top = index * this.height + "px";
      row.style.height = this.height + "px";
      this.fill(row, this.items[index], index);
      rows.push(row);
      if (index === this.active) this.box.setAttribute("aria-activedescendant", id);
    }
    if (many < this.items.length) {
      rows.push(el("div", { class: "soft" }, `… and ${(this.items.length - many).toLocaleString()} more`));
      rows[many].style.paddingTop = many * this.height + "px";
      this.box.style.height = this.inner.style.height = "auto";
    }
    this.inner.replaceChildren(...rows);
  }

  select(index) {
    this.active = Math.max(0, Math.min(this.items.length - 1, index));
    const top = this.active * this.height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    if (top + this.height > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top + this.height - this.box.clientHeight;
    }
    this.draw();
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in steps) this.select(this.active + steps[event.key]);
    else if (event.key === "Enter" && this.items.length) this.open(this.items[this.active]);
    else if (event.key in this.keys && this.items.length) this.keys[event.key](this.items[this.active]);
    else return;
    event.preventDefault();
  }
}

// Rows that are added so many at a time.
function more(into, items, many, make) {
  let shown = 0;
  const button = el("button", { type: "button", onclick: add });
  function add() {
    into.append(...items.slice(shown, shown + many).map(make));
    shown = Math.min(items.length, shown + many);
    button.textContent = `Show more (${(items.length - shown).toLocaleString()} left)`;
    button.hidden = shown >= items.length;
  }
  add();
  return button;
}
