// The view of an invitation. The line comes when a button is pressed, and is shown here alone.

const STYLE = `
.pbnb-invitation { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; padding: 4px 1ch; font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, 13px) }
.pbnb-invitation code { font: inherit; background: none; padding: 0; word-break: break-all; user-select: all }
.pbnb-invitation output { font-family: var(--jp-ui-font-family, sans-serif); color: var(--jp-ui-font-color2, #616161) }
`;

// Milliseconds for which it is said that the line was copied, and that an answer may take.
const SAID = 2000;
const PATIENCE = 2000;

function button(text, press) {
  const made = document.createElement("button");
  made.className = "jupyter-button";
  made.textContent = text;
  made.addEventListener("click", press);
  return made;
}

function render({ model, el }) {
  const style = document.createElement("style");
  style.textContent = STYLE;
  const line = document.createElement("code");
  line.textContent = model.get("masked");
  const note = document.createElement("output");
  let shown = false;
  let timer;
  const say = (text, lasts) => {
    clearTimeout(timer);
    note.textContent = text;
    if (lasts) timer = setTimeout(() => (note.textContent = ""), lasts);
  };
  const ask = (what) => {
    say("");
    // A kernel that computes answers when it is done, and one that has ended never.
    timer = setTimeout(() => say("The kernel does not answer: it is busy, or has ended."), PATIENCE);
    model.send({ ask: what });
  };
  const hide = () => {
    shown = false;
    say("");
    line.textContent = model.get("masked");
    reveal.textContent = "Reveal";
  };
  const reveal = button("Reveal", () => (shown ? hide() : ask("reveal")));
  const copy = button("Copy", () => ask("copy"));
  const show = (text) => {
    shown = true;
    line.textContent = text;
    reveal.textContent = "Hide";
  };
  const showToCopy = (text) => {
    show(text);
    getSelection().selectAllChildren(line);
    say("This page may not copy by itself: press Ctrl+C or ⌘C.");
  };
  const heard = (message) => {
    say("");
    if (message.for !== "copy") {
      show(message.line);
      return;
    }
    // A page that came over plain HTTP has no clipboard: the line can be copied by hand.
    if (!navigator.clipboard) {
      showToCopy(message.line);
      return;
    }
    navigator.clipboard.writeText(message.line).then(
      () => say("Copied", SAID),
      () => showToCopy(message.line),
    );
  };
  model.on("msg:custom", heard);
  const box = document.createElement("div");
  box.className = "pbnb-invitation";
  box.append(line, reveal, copy, note);
  el.append(style, box);
  return () => {
    clearTimeout(timer);
    model.off("msg:custom", heard);
  };
}

export default { render };
