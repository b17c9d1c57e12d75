// The strip of thumbnails. Thousands are cheap: what is not in view is neither loaded nor painted.

import { at, make } from "./dom.js";

const LINE = 30; // pixels that a browser scrolls when it counts in lines

/**
 * Fill the strip.
 * @param {number} count how many images there are.
 * @param {(index: number) => void} pick called with the number of the image that was clicked.
 * @returns {{mark: Function, filter: Function, point: Function}}
 */
export function createStrip(count, pick) {
  const strip = at("strip");
  const buttons = Array.from({ length: count }, (_, index) => {
    const image = make("img", { loading: "lazy", decoding: "async", fetchPriority: "low", alt: "", src: `thumbnail/${index}` });
    const button = make("button", { type: "button" }, image, make("i"));
    image.addEventListener("error", () => button.classList.add("broken"));
    button.addEventListener("click", () => pick(index));
    return button;
  });
  strip.append(...buttons.map((button) => make("li", {}, button)));
  strip.addEventListener("wheel", (event) => {
    if (event.deltaX || event.ctrlKey) return;
    strip.scrollLeft += event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
    event.preventDefault();
  }, { passive: false });
  let pointed;

  return {
    /** Show what was decided about an image; `words` say it to those who do not see it. */
    mark(index, action, words) {
      buttons[index].dataset.action = action;
      buttons[index].ariaLabel = words;
    },

    /** Show only the images for which `shown(index)` is true. */
    filter(shown) {
      buttons.forEach((button, index) => { button.parentElement.hidden = !shown(index); });
    },

    /** Point at an image and bring it to the middle; at none if there is no such image. */
    point(index) {
      pointed?.removeAttribute("aria-current");
      pointed = buttons[index];
      if (!pointed) return;
      pointed.ariaCurrent = "true";
      const item = pointed.parentElement;
      strip.scrollLeft = item.offsetLeft - (strip.clientWidth - item.offsetWidth) / 2;
    },
  };
}
