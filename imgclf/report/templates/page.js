// The images of a cell, and tables sorted by their headings. Names reach the page as text only (textContent).
"use strict";

const percent = (share) => {
  let text = (100 * share).toFixed(1);
  if (text === "100.0" && share < 1) text = ">\u202f99.9";
  if (text === "0.0" && share > 0) text = "<\u202f0.1";
  return text + "\u00a0%";
};

// Control characters are drawn, as everywhere on the page: no name can break a line or hide.
const visible = (text) =>
  text.replace(/[\u0000-\u001f\u007f]/g, (mark) => String.fromCharCode(0x2400 + Math.min(mark.charCodeAt(0), 0x21)));

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const nameOf = (text) => make("bdi", { className: "name", textContent: visible(text) });

const source = document.getElementById("cell-data");
const panel = document.getElementById("cell");
if (source && panel) {
  const { classes, cells, pictures } = JSON.parse(source.textContent);
  const buttons = [...document.querySelectorAll("button[data-cell]")];
  let opener = null;

  const photo = (row, hit, truly, said) => {
    const [path, probability, trueProbability, picture] = row;
    const frame = make("div", { className: "frame" });
    frame.append(
      picture === null
        ? make("span", { className: "quiet", textContent: "no preview" })
        : make("img", { src: pictures[picture], alt: visible(path) }),
    );
    const item = make("li", {}, frame);
    const sure = make("p", { className: hit ? "first" : "said" }, nameOf(said));
    sure.append(make("span", { textContent: percent(probability) }));
    item.append(sure);
    if (!hit) {
      const other = make("p", { className: "truth" }, make("span", { className: "word" }, "truly ", nameOf(truly)));
      other.append(make("span", { textContent: percent(trueProbability) }));
      item.append(other);
    }
    item.append(make("p", { className: "path" }, nameOf(path)));
    return item;
  };

  const close = () => {
    panel.hidden = true;
    panel.replaceChildren();
    for (const button of buttons) button.setAttribute("aria-expanded", "false");
    if (opener) opener.focus();
    opener = null;
  };

  const show = (button) => {
    const key = button.dataset.cell;
    const [truly, said] = key.split("-").map((number) => classes[Number(number)]);
    const hit = key.split("-")[0] === key.split("-")[1];
    const { n, images } = cells[key];
    const drawn = images.filter((row) => row[3] !== null);
    const listed = images.filter((row) => row[3] === null);
    for (const each of buttons) each.setAttribute("aria-expanded", String(each.dataset.cell === key));
    opener = button;
    const title = make("h3", { tabIndex: -1 }, nameOf(truly));
    title.append(hit ? " named correctly" : " taken for ", ...(hit ? [] : [nameOf(said)]));
    title.append(make("span", { className: "quiet", textContent: n === 1 ? "1 image" : n.toLocaleString("en") + " images" }));
    const shut = make("button", { type: "button", className: "shut", textContent: "Close" });
    shut.addEventListener("click", close);
    const order = hit ? "Those come first that the model was least sure of." : "Those come first that the model was surest of.";
    panel.replaceChildren(make("div", { className: "cell-head" }, title, shut));
    if (n > 1) panel.append(make("p", { className: "quiet", textContent: order }));
    if (drawn.length) {
      panel.append(make("ul", { className: "photos small" }, ...drawn.map((row) => photo(row, hit, truly, said))));
    }
    if (listed.length) {
      const open = !drawn.length;
      const summary = open ? "Without thumbnails" : "The other " + listed.length.toLocaleString("en") + ", by name";
      const names = make("ul", { className: "further" }, ...listed.map((row) => make("li", {}, nameOf(row[0]))));
      panel.append(make("details", { open }, make("summary", { textContent: summary }), names));
    }
    if (images.length < n) {
      const rest = (n - images.length).toLocaleString("en") + " more are in predictions.csv.";
      panel.append(make("p", { className: "quiet", textContent: rest }));
    }
    panel.hidden = false;
    // at once: what was clicked does not glide away from under the pointer
    panel.scrollIntoView({ block: "nearest", behavior: "instant" });
    title.focus({ preventScroll: true });
  };

  for (const button of buttons) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true" && button === opener;
      if (open) close();
      else show(button);
    });
  }
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });

  // Arrow keys go from number to number within the matrix.
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const matrix = document.querySelector("table.matrix");
  if (matrix) {
    matrix.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step || !event.target.dataset.cell) return;
      let [row, column] = event.target.dataset.cell.split("-").map(Number);
      while (true) {
        row += step[0];
        column += step[1];
        if (row < 0 || column < 0 || row >= classes.length || column >= classes.length) return;
        const next = matrix.querySelector(`button[data-cell="${row}-${column}"]`);
        if (next) {
          event.preventDefault();
          next.focus();
          return;
        }
      }
    });
  }
}

// The tables of one section are one table of which the end is folded away: they are sorted together.
for (const section of document.querySelectorAll("[data-sorted]")) {
  const bodies = [...section.querySelectorAll("tbody")];
  const buttons = [...section.querySelectorAll("button.sort")];
  const columnOf = (button) => [...button.closest("tr").children].indexOf(button.closest("th"));
  const valueOf = (row, column) => {
    const cell = row.children[column];
    const value = cell.dataset.value;
    return value === undefined ? cell.textContent : value === "" ? null : Number(value);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const sort = (button) => {
    const column = columnOf(button);
    const now = button.closest("th").getAttribute("aria-sort");
    // Numbers begin with the largest, names with the first letter; a second click turns it round.
    const first = button.closest("th").classList.contains("num") ? "descending" : "ascending";
    const direction = now === null ? first : now === "ascending" ? "descending" : "ascending";
    for (const each of buttons) {
      const heading = each.closest("th");
      if (columnOf(each) === column) heading.setAttribute("aria-sort", direction);
      else heading.removeAttribute("aria-sort");
    }
    const rows = bodies.flatMap((body) => [...body.children]).map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // nothing measured comes last
      return direction === "ascending" ? compare(a, b) : compare(b, a);
    });
    const lengths = bodies.map((body) => body.children.length);
    bodies.forEach((body, at) => body.append(...rows.splice(0, lengths[at]).map(([, row]) => row)));
  };
  for (const button of buttons) button.addEventListener("click", () => sort(button));
}
