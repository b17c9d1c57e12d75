// The list of classes: the first nine have a digit, typing narrows it down, an unknown name can become a new class.

import { at, make, nameElement } from "./dom.js";

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase(); // "Röcke" is found by "rock"

/**
 * Fill the list.
 * @param {string[]} names the classes, in the order in which they are shown.
 * @param {(name: string) => void} choose called with the class that was chosen.
 * @returns {{open: Function, close: Function, toggle: Function, mark: Function, nth: Function}}
 */
export function createPicker(names, choose) {
  const list = at("classes");
  const input = at("wanted");
  const classes = [];
  const newName = nameElement("");
  const newItem = make("li", { hidden: true }, make("button", { type: "button" }, make("span", { className: "tag", textContent: "new class" }), newName));

  const typed = () => input.value.trim().normalize("NFC");
  const choices = () => [...list.children].filter((item) => !item.hidden);

  function add(name) {
    const digit = classes.length < 9 ? String(classes.length + 1) : "";
    const tag = make("span", { className: "tag" });
    const button = make("button", { type: "button" }, make("kbd", { textContent: digit }), nameElement(name), tag);
    button.addEventListener("click", () => choose(name));
    const item = make("li", {}, button);
    list.append(item);
    classes.push({ name, folded: fold(name), item, button, tag });
  }

  function narrow() {
    const wanted = fold(typed());
    const found = classes.filter(({ folded }) => folded.includes(wanted));
    found.sort((one, other) => other.folded.startsWith(wanted) - one.folded.startsWith(wanted)); // which keeps the order
    for (const { item } of classes) item.hidden = true;
    for (const { item } of found) item.hidden = false;
    list.append(...found.map(({ item }) => item), newItem);
    newItem.hidden = wanted === "" || classes.some(({ name }) => name === typed());
    newName.textContent = typed();
    highlight(wanted ? found[0]?.item : undefined); // a new class is never what Enter does to a slip of the fingers
  }

  function highlight(item) {
    list.querySelector(".first")?.classList.remove("first");
    item?.classList.add("first");
    item?.scrollIntoView({ block: "nearest" });
  }

  function onKey(event) {
    const shown = choices();
    const place = shown.findIndex((item) => item.classList.contains("first"));
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) highlight(shown[Math.min(shown.length - 1, Math.max(0, place + by))]);
    else if (event.key === "Enter" && !event.isComposing) shown[place]?.firstChild.click();
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  }

  // where there is room the list is always there, and open and close are about the cursor only
  function open() {
    document.body.classList.add("picking");
    at("other").ariaExpanded = "true";
    if (!matchMedia("(pointer: coarse)").matches) input.focus(); // a keyboard on the screen would cover the list
  }

  function close() {
    document.body.classList.remove("picking");
    at("other").ariaExpanded = "false";
    input.blur();
    if (!input.value) return;
    input.value = "";
    narrow();
  }

  names.forEach(add);
  list.append(newItem);
  newItem.firstChild.addEventListener("click", () => {
    const name = typed();
    add(name);
    choose(name);
  });
  input.addEventListener("input", narrow);
  input.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    if (document.body.classList.contains("picking") && !event.target.closest("#picker, #other")) close();
  });

  return {
    open,
    close,
    toggle: () => (document.body.classList.contains("picking") ? close() : open()),

    /** The class with this digit, if there is one. */
    nth: (digit) => classes[digit - 1]?.name,

    /** Show which class an image has, which is suggested and which was chosen; each may be "". */
    mark(label, suggested, chosen) {
      for (const { name, button, tag } of classes) {
        button.ariaPressed = String(name === chosen);
        tag.textContent = name === label ? "label" : name === suggested ? "suggested" : "";
      }
    },
  };
}
