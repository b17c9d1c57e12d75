// The page that tries a model: a photo or the camera in, the most likely classes out, all in this browser.

import { decode, drawn, forModel } from "./pixels.js";

const SHOWN = 5; // classes
const ANY_SCORE = 1e-30; // 0 would mean the threshold of the file
const element = (id) => document.getElementById(id);

let model, classifier, stream;

start().catch(fail);

async function start() {
  if (location.protocol === "file:") {
    throw Error("Browsers run no models in pages opened from disk. Start it with `imgclf demo`, or put the folder on any web server.");
  }
  model = await (await fetch("model.json")).json();
  describe();
  classifier = await load();
  element("waiting").textContent = "Ready: choose a photo.";
  document.body.dataset.state = "ready";
  listen();
  await check();
  if (model.offline && navigator.serviceWorker && !["localhost", "127.0.0.1"].includes(location.hostname)) {
    navigator.serviceWorker.register("offline.js");
  }
}

/** MediaPipe's classifier of the very file that apps get. */
async function load() {
  const { FilesetResolver, ImageClassifier } = await import(model.runtime.bundle).catch(() => {
    throw Error(`MediaPipe cannot be had from ${model.runtime.bundle}. Is there a network?`);
  });
  if (!(await FilesetResolver.isSimdSupported())) throw Error("This browser is too old: it has no WebAssembly SIMD.");
  const [content, files] = await Promise.all([
    fetch(model.file).then((answer) => answer.arrayBuffer()),
    FilesetResolver.forVisionTasks(model.runtime.wasm),
  ]);
  return ImageClassifier.createFromOptions(files, {
    baseOptions: { modelAssetBuffer: new Uint8Array(content), delegate: "CPU" },
    scoreThreshold: ANY_SCORE,
    maxResults: -1,
  });
}

/**
 * What the model says.
 * @param {ImageData} image of any size
 * @returns {{categories: {name: string, score: number}[], milliseconds: number}} best first
 */
function classify(image) {
  const input = forModel(image, model.width, model.height);
  const begun = performance.now();
  const found = classifier.classify(input).classifications[0].categories;
  const milliseconds = performance.now() - begun;
  const categories = found.map(({ categoryName, index, score }) => ({ name: categoryName, index, score }));
  return { categories: categories.sort((a, b) => b.score - a.score), milliseconds };
}

async function show(file) {
  stopCamera();
  hideProblem();
  element("busy").hidden = false;
  try {
    const image = await decode(file).catch(() => {
      throw Error(`${file.name || "This"} is not an image that this browser can read.`);
    });
    paint(image);
    await new Promise((done) => setTimeout(done)); // let the photo appear before the work begins
    answer(classify(image));
  } catch (error) {
    fail(error);
  } finally {
    element("busy").hidden = true;
  }
}

function paint(image) {
  const canvas = element("picture");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.hidden = false;
  element("video").hidden = true;
  element("invitation").hidden = true;
}

function answer({ categories, milliseconds }) {
  const rows = categories.slice(0, SHOWN).map(({ name, score }, place) => {
    const row = document.createElement("div");
    row.className = place ? "row" : "row best";
    const [label, value, bar, part] = ["span", "span", "span", "i"].map((kind) => document.createElement(kind));
    label.className = "name";
    label.textContent = name;
    label.dir = "auto";
    value.className = "value";
    value.textContent = percent(score);
    bar.className = "bar";
    part.style.width = `${100 * score}%`;
    bar.append(part);
    row.append(label, value, bar);
    return row;
  });
  element("result").replaceChildren(...rows);
  element("time").textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms in this browser`;
}

function percent(score) {
  const points = 100 * score;
  if (points > 99.9 && points < 100) return "> 99.9 %";
  return `${points < 10 || (points > 99 && points < 100) ? points.toFixed(1) : Math.round(points)} %`;
}

/** Whether this browser gives the scores that were measured when the file was made. */
async function check() {
  if (!model.examples.length) return;
  if (!(await fetch(model.examples[0].image)).ok) { // somebody did not want to show them
    element("examples").hidden = true;
    return;
  }
  let right = 0, off = 0;
  for (const example of model.examples) {
    const file = await fetch(example.image).then((answer) => answer.blob());
    const { categories } = classify(await decode(file));
    const expected = example.scores.indexOf(Math.max(...example.scores));
    right += categories[0].index === expected;
    off = Math.max(off, ...categories.map(({ index, score }) => Math.abs(score - example.scores[index])));
    await new Promise((done) => setTimeout(done));
  }
  const all = model.examples.length;
  const good = right === all;
  element("check").textContent = good
    ? `Checked: this browser gives the answer that was measured in Python on ${right} of ${all} example photos, scores within ${off.toPrecision(1)}.`
    : `This browser gives another answer than was measured in Python on ${all - right} of ${all} example photos: do not rely on it here.`;
  element("check").className = good ? "good" : "bad";
  document.body.dataset.check = good ? "good" : "bad";
  document.body.dataset.off = String(off);
}

function describe() {
  element("facts").textContent = [
    `${model.known} classes${model.classes.length > model.known ? " and unknown" : ""}`,
    `${model.file}, ${(model.bytes / 1e6).toFixed(2)} MB`,
    `right on ${percent(model.accuracy)} of ${model.n} test images (95 % interval ${percent(model.low)} to ${percent(model.high)})`,
  ].join(" · ");
  element("examples").hidden = !model.examples.length;
  element("list").replaceChildren(...model.examples.map((example) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    const image = document.createElement("img");
    image.src = example.image;
    image.alt = "";
    image.loading = "lazy";
    const label = document.createElement("span");
    label.className = "name";
    label.dir = "auto";
    label.textContent = example.label;
    button.append(image, label);
    button.addEventListener("click", async () => {
      await show(await fetch(example.image).then((found) => found.blob()));
      element("stage").scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    item.append(button);
    return item;
  }));
}

function listen() {
  element("file").addEventListener("change", ({ target }) => {
    if (target.files.length) show(target.files[0]);
    target.value = ""; // so that the same photo can be chosen again
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
  });
  addEventListener("paste", ({ clipboardData }) => {
    const file = [...clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) show(file);
  });
  element("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera().catch(fail)));
}

async function startCamera() {
  hideProblem();
  if (!navigator.mediaDevices) throw Error("Cameras need a page from https:// or from this computer.");
  stream = await navigator.mediaDevices
    .getUserMedia({ video: { facingMode: "environment", width: { ideal: 640 } } })
    .catch((error) => {
      throw Error(error.name === "NotAllowedError" ? "The camera was not allowed." : "There is no camera to be had.");
    });
  const video = element("video");
  video.srcObject = stream;
  await video.play();
  video.hidden = false;
  element("picture").hidden = true;
  element("invitation").hidden = true;
  element("camera").textContent = "Stop the camera";
  const look = () => {
    if (!stream) return;
    if (video.videoWidth) answer(classify(drawn(video, video.videoWidth, video.videoHeight)));
    setTimeout(look, 60); // room for the page between two looks
  };
  look();
}

function stopCamera() {
  if (!stream) return;
  const video = element("video");
  if (video.videoWidth) paint(drawn(video, video.videoWidth, video.videoHeight)); // the last look stays
  stream.getTracks().forEach((track) => track.stop());
  stream = undefined;
  video.hidden = true;
  element("camera").textContent = "Use the camera";
}

function fail(error) {
  element("problem").textContent = error.message || String(error);
  element("problem").hidden = false;
  element("waiting")?.remove();
  if (document.body.dataset.state !== "ready") document.body.dataset.state = "failed";
}

function hideProblem() {
  element("problem").hidden = true;
}
