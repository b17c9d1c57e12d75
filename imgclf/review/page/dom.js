// Finding and making elements. Names of files and classes become text here, never HTML.

export const at = (id) => document.getElementById(id);

/** A new element with some of its properties set and with children, which are elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A name in an element of its own, so that one from right to left leaves the text around it alone. */
export const nameElement = (text) => make("bdi", { className: "name", textContent: text });
