"use strict";
const $ = (id) => document.getElementById(id);
let going = [];
let systems = [];

async function load() {
  for (;;) {
    try {
      const response = await fetch("/systems", { headers: keyed() });
      const found = await response.json();
      if (response.ok) return ready(found);
      if (response.status === 401) askForKey();
      else $("model").textContent = found.error.message;
      if (response.status !== 503) return;
    } catch {
      $("model").textContent = "the server does not answer";
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}

function keyed() {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function askForKey() {
  const key = prompt("This server wants a key:");
  if (!key) return;
  sessionStorage.setItem("key", key);
  load();
}

function ready(found) {
  systems = found.systems;
  $("model").textContent = `${found.model} · ${systems.map((s) => s.name).join(", ")} · ${systems[0].task}`;
  $("tokens").value = found.max_new_tokens;
  for (const text of found.examples) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = text.length > 48 ? `${text.slice(0, 46)}…` : text;
    chip.addEventListener("click", () => { $("prompt").value = text; $("prompt").focus(); });
    $("examples").append(chip);
  }
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!systems.length) return;
  say("");
  $("answers").replaceChildren();
  $("tools").hidden = false;
  busy(true);
  const panels = systems.map((system) => panel(system.name));
  await Promise.all(panels.map(stream));
  busy(false);
});
$("stop").addEventListener("click", () => going.forEach((each) => each.abort()));
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("scripts").addEventListener("change", () => document.querySelectorAll(".answer").forEach(frame));
document.querySelectorAll("[name=width]").forEach((each) =>
  each.addEventListener("change", () => document.querySelectorAll("iframe").forEach(size)));

function busy(is) {
  $("go").disabled = is;
  $("stop").hidden = !is;
  if (!is) going = [];
}

function say(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function panel(name) {
  const root = $("answer").content.firstElementChild.cloneNode(true);
  root.dataset.system = name;
  root.setAttribute("aria-label", name);
  root.querySelector("h2").textContent = name;
  root.querySelectorAll("[role=tab]").forEach((tab) => {
    tab.addEventListener("click", () => show(root, tab.dataset.view));
    tab.addEventListener("keydown", (event) => {
      const tabs = [...root.querySelectorAll("[role=tab]")];
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      show(root, next.dataset.view);
    });
    const view = root.querySelector(`.view[data-view=${tab.dataset.view}]`);
    tab.id = `${name}-${tab.dataset.view}-tab`;
    view.id = `${name}-${tab.dataset.view}`;
    tab.setAttribute("aria-controls", view.id);
    view.setAttribute("aria-labelledby", tab.id);
  });
  root.querySelectorAll("a").forEach((a) => a.setAttribute("aria-disabled", "true"));
  root.querySelector("[data-do=copy]").addEventListener("click", async (event) => {
    await navigator.clipboard.writeText(root.source || "");
    event.target.textContent = "Copied";
    setTimeout(() => { event.target.textContent = "Copy"; }, 1500);
  });
  show(root, "source");
  $("answers").append(root);
  return root;
}

function show(root, view) {
  root.querySelectorAll("[role=tab]").forEach((tab) => {
    const is = tab.dataset.view === view;
    tab.setAttribute("aria-selected", is);
    tab.tabIndex = is ? 0 : -1;
  });
  root.querySelectorAll(".view").forEach((each) => { each.hidden = each.dataset.view !== view; });
}

async function stream(root) {
  const abort = new AbortController();
  going.push(abort);
  const facts = root.querySelector(".facts");
  const began = performance.now();
  facts.textContent = "waiting…";
  root.source = "";
  const body = {
    prompt: $("prompt").value,
    system: root.dataset.system,
    max_new_tokens: Number($("tokens").value) || undefined,
    temperature: Number($("temperature").value),
    seed: Number($("seed").value),
  };
  try {
    const response = await fetch("/generate_html/stream", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...keyed() },
      body: JSON.stringify(body),
      signal: abort.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        const data = JSON.parse(event.slice(6));
        if (data.error) throw new Error(data.error.message);
        if (data.answer) return end(root, data.answer);
        root.source += data.text;
        facts.textContent = `${root.source.length} characters, ${((performance.now() - began) / 1000).toFixed(1)} s…`;
        root.querySelector("code").textContent = root.source;
      }
    }
    throw new Error("the server ended before the answer did");
  } catch (error) {
    facts.textContent = error.name === "AbortError" ? "stopped" : "failed";
    if (error.name !== "AbortError") say(error.message);
  }
}

function end(root, answer) {
  root.answer = answer;
  root.source = answer.html;
  const rate = answer.seconds ? answer.new_tokens / answer.seconds : 0;
  const why = answer.finish_reason === "length" ? "cut off at its most tokens" : "ended by itself";
  root.querySelector(".facts").textContent =
    `${answer.new_tokens} tokens, ${answer.seconds.toFixed(1)} s, ${rate.toFixed(0)} a second, ${why}`;
  const badge = root.querySelector(".badge");
  const valid = answer.validity.html_valid === 1;
  badge.hidden = false;
  badge.className = `badge ${valid ? "good" : "bad"}`;
  badge.textContent = valid ? "valid HTML" : "not valid";
  highlight(root.querySelector("code"), answer.html);
  errors(root, answer.validity.errors);
  const address = URL.createObjectURL(new Blob([answer.html], { type: "text/plain" }));
  root.querySelector("[data-do=download]").href = address;
  root.querySelectorAll("a").forEach((a) => a.removeAttribute("aria-disabled"));
  frame(root);
  show(root, "page");
}

function frame(root) {
  if (!root.answer) return;
  const scripts = $("scripts").checked;
  const address = `${root.answer.page}${scripts ? "?scripts=1" : ""}`;
  const made = document.createElement("iframe");
  made.title = `the page that ${root.dataset.system} wrote`;
  made.setAttribute("sandbox", scripts ? "allow-scripts" : "");
  made.src = address;
  size(made);
  root.querySelector(".view[data-view=page]").replaceChildren(made);
  root.querySelector("[data-do=open]").href = address;
}

function size(made) {
  const width = document.querySelector("[name=width]:checked").value;
  made.style.setProperty("width", width ? `${width}px` : "100%");
}

function errors(root, found) {
  const place = root.querySelector(".view[data-view=errors]");
  if (!found.length) {
    place.replaceChildren(Object.assign(document.createElement("p"), {
      className: "wait", textContent: "The parser finds no error.",
    }));
    return;
  }
  const list = document.createElement("ol");
  list.className = "errors";
  for (const each of found) {
    const item = document.createElement("li");
    item.textContent = `line ${each.line}, column ${each.column}: ${each.code}`;
    list.append(item);
  }
  place.replaceChildren(list);
}

const TOKEN = /(<!--[\s\S]*?(?:-->|$))|(<\/?[a-zA-Z][^\s>/]*)|(\/?>)|([\w:@.-]+)(=)("[^"]*"?|'[^']*'?|[^\s>]+)/g;
function highlight(code, text) {
  code.replaceChildren();
  let at = 0;
  const put = (part, kind) => {
    if (!part) return;
    const span = kind ? document.createElement("span") : document.createTextNode(part);
    if (kind) { span.className = kind; span.textContent = part; }
    code.append(span);
  };
  for (const found of text.matchAll(TOKEN)) {
    put(text.slice(at, found.index));
    const [, comment, tag, close, name, equals, value] = found;
    if (comment) put(comment, "comment");
    else if (tag || close) put(tag || close, "tag");
    else { put(name, "name"); put(equals); put(value, "value"); }
    at = found.index + found[0].length;
  }
  put(text.slice(at));
}

load();
