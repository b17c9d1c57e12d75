// The page of a server: what /openapi.json says, and a form to try it. All texts go in as text, never as HTML.

const at = id => document.getElementById(id);

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function operation(path, method, about) {
  const heading = element("h3", "", element("b", method.toUpperCase()), ` ${path}`);
  const facts = element("dl");
  for (const parameter of about.parameters ?? []) {
    facts.append(element("dt", `?${parameter.name}`), element("dd", `default ${parameter.schema?.default ?? "none"}`));
  }
  const types = Object.keys(about.requestBody?.content ?? {});
  if (types.length) facts.append(element("dt", "body"), element("dd", types.join(", ")));
  for (const [status, answer] of Object.entries(about.responses ?? {})) {
    facts.append(element("dt", status), element("dd", answer.description));
  }
  const box = element("div", "", heading, element("p", about.description), facts);
  box.className = "operation";
  return box;
}

async function describe() {
  const api = await (await fetch("/openapi.json")).json();
  at("version").textContent = api.info.version;
  at("about").textContent = api.info.description;
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, about] of Object.entries(methods)) at("operations").append(operation(path, method, about));
  }
  at("shell").textContent = [
    `curl -H "Content-Type: image/jpeg" --data-binary @photo.jpg "${location.origin}/predict?top=3"`,
    `curl -F image=@one.jpg -F image=@two.jpg ${location.origin}/predict`,
    `curl ${location.origin}/health`,
  ].join("\n");
}

function show(files) {
  for (const old of at("shown").children) URL.revokeObjectURL(old.src);
  at("shown").replaceChildren(...files.slice(0, 12).map(file => {
    const picture = element("img");
    picture.src = URL.createObjectURL(file);
    picture.alt = file.name;
    return picture;
  }));
}

at("try").addEventListener("submit", async event => {
  event.preventDefault();
  const files = [...at("files").files];
  const form = new FormData();
  for (const file of files) form.append("image", file);
  show(files);
  const button = event.submitter;
  button.disabled = true;
  at("answer").hidden = false;
  at("answer").textContent = "…";
  try {
    const query = new URLSearchParams({ top: at("top").value });
    const answer = await fetch(`/predict?${query}`, { method: "POST", body: form });
    at("answer").textContent = `${answer.status}\n${JSON.stringify(await answer.json(), null, 2)}`;
  } catch (error) {
    at("answer").textContent = `no answer (${error.message})`;
  } finally {
    button.disabled = false;
  }
});

describe();
