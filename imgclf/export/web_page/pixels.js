// Photos as the model was trained on them: the same arithmetic as imgclf/pixels.py, so that the same photo gives the
// same scores in this browser and in Python.

const SHRINK_FACTOR = 4; // an image whose short side is over 4 times the model's is made smaller first, antialiased,
const SHRUNK_FACTOR = 2; // to twice the model's side
const REDUCING_GAP = 2; // by whole numbers first, to no less than twice the size that is wanted
const MOST_PIXELS = 16e6; // what canvases of phones hold

/**
 * Read an image file, upright, transparency on white, its colour profile ignored.
 * @param {Blob} file
 * @returns {Promise<ImageData>}
 */
export async function decode(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  // browsers that know an option by another name, or not at all, still apply the orientation
  const bitmap = await createImageBitmap(file, options).catch(() => createImageBitmap(file));
  const data = drawn(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return data;
}

/**
 * Read what a video, canvas or image shows now.
 * @returns {ImageData}
 */
export function drawn(source, width, height) {
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/**
 * An image as the model takes it: shrunk where it is very large, stretched to its input.
 * @param {ImageData} image
 * @returns {ImageData} of exactly this size
 */
export function forModel(image, width, height) {
  return stretch(shrink(image, Math.max(width, height)), width, height);
}

/** Make a very large image smaller, antialiased; others stay as they are. */
export function shrink(image, side) {
  const short = Math.min(image.width, image.height);
  if (short <= SHRINK_FACTOR * side) return image;
  const scale = (SHRUNK_FACTOR * side) / short;
  const [width, height] = [Math.round(image.width * scale), Math.round(image.height * scale)];
  const across = Math.max(1, Math.floor(image.width / width / REDUCING_GAP));
  const down = Math.max(1, Math.floor(image.height / height / REDUCING_GAP));
  return lanczos(reduce(image, across, down), width, height);
}

/** Resize by bilinear interpolation with half-pixel centres and without antialiasing, as TensorFlow does. */
export function stretch(image, width, height) {
  const rows = taps(image.height, height);
  const columns = taps(image.width, width);
  const source = image.data;
  const result = new Uint8ClampedArray(width * height * 4);
  let at = 0;
  for (const [top, bottom, down] of rows) {
    const [upper, lower] = [top * image.width, bottom * image.width];
    for (const [left, right, across] of columns) {
      for (let channel = 0; channel < 3; channel++) {
        const a = source[4 * (upper + left) + channel];
        const b = source[4 * (lower + left) + channel];
        const first = a + (source[4 * (upper + right) + channel] - a) * across;
        const second = b + (source[4 * (lower + right) + channel] - b) * across;
        result[at++] = first + (second - first) * down; // a clamped array rounds to the nearest
      }
      result[at++] = 255;
    }
  }
  return new ImageData(result, width, height);
}

/** For each output position: the two input positions beside it, and how far it lies towards the second. */
function taps(size, wanted) {
  return Array.from({ length: wanted }, (_, index) => {
    const position = ((index + 0.5) * size) / wanted - 0.5;
    const first = Math.floor(position);
    return [Math.max(first, 0), Math.min(Math.ceil(position), size - 1), position - first];
  });
}

/** The mean of whole blocks of pixels. */
function reduce(image, across, down) {
  if (across === 1 && down === 1) return image;
  const [width, height] = [Math.ceil(image.width / across), Math.ceil(image.height / down)];
  const result = new Uint8ClampedArray(width * height * 4);
  for (let row = 0; row < height; row++) {
    const [top, bottom] = [row * down, Math.min(image.height, (row + 1) * down)];
    for (let column = 0; column < width; column++) {
      const [left, right] = [column * across, Math.min(image.width, (column + 1) * across)];
      const sums = [0, 0, 0];
      for (let y = top; y < bottom; y++) {
        for (let x = left, at = 4 * (y * image.width + left); x < right; x++, at += 4) {
          sums[0] += image.data[at];
          sums[1] += image.data[at + 1];
          sums[2] += image.data[at + 2];
        }
      }
      const place = 4 * (row * width + column);
      const count = (bottom - top) * (right - left);
      for (let channel = 0; channel < 3; channel++) result[place + channel] = sums[channel] / count;
      result[place + 3] = 255;
    }
  }
  return new ImageData(result, width, height);
}

/** Resize by Lanczos' filter of three lobes, which is widened where the image gets smaller. */
function lanczos(image, width, height) {
  const narrow = filtered(image.data, image.width, image.height, width);
  const done = filtered(narrow, image.height, width, height);
  return new ImageData(done, width, height);
}

/** Filter along rows; the result is turned, so that doing it twice filters both ways. */
function filtered(source, size, lines, wanted) {
  const scale = size / wanted;
  const support = 3 * Math.max(scale, 1);
  const result = new Uint8ClampedArray(wanted * lines * 4);
  for (let index = 0; index < wanted; index++) {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.round(centre - support));
    const last = Math.min(size, Math.round(centre + support));
    const weights = [];
    for (let at = first; at < last; at++) weights.push(lobes((at + 0.5 - centre) / Math.max(scale, 1)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let line = 0; line < lines; line++) {
      const sums = [0, 0, 0];
      for (let tap = 0, at = 4 * (line * size + first); tap < weights.length; tap++, at += 4) {
        for (let channel = 0; channel < 3; channel++) sums[channel] += weights[tap] * source[at + channel];
      }
      const place = 4 * (index * lines + line);
      for (let channel = 0; channel < 3; channel++) result[place + channel] = sums[channel] / total;
      result[place + 3] = 255;
    }
  }
  return result;
}

function lobes(x) {
  if (x === 0) return 1;
  if (Math.abs(x) >= 3) return 0;
  const angle = Math.PI * x;
  return (3 * Math.sin(angle) * Math.sin(angle / 3)) / (angle * angle);
}
