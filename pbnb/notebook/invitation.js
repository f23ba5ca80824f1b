// The view of an invitation. The line comes when a button is pressed, and is shown here alone.

const STYLE = `
.pbnb-invitation { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; padding: 4px 0 }
.pbnb-invitation code { overflow-wrap: anywhere; user-select: all }
`;

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
  line.setAttribute("aria-live", "polite");
  let shown = false;
  const hide = () => {
    shown = false;
    line.textContent = model.get("masked");
    reveal.textContent = "Reveal";
  };
  const reveal = button("Reveal", () => (shown ? hide() : model.send({ ask: "reveal" })));
  const copy = button("Copy", () => model.send({ ask: "copy" }));
  const show = (text) => {
    shown = true;
    line.textContent = text;
    reveal.textContent = "Hide";
  };
  const heard = (message) => {
    if (message.for !== "copy") {
      show(message.line);
      return;
    }
    // A page that came over plain HTTP has no clipboard: the line can be copied by hand.
    if (!navigator.clipboard) {
      show(message.line);
      return;
    }
    navigator.clipboard.writeText(message.line).then(
      () => (copy.textContent = "Copied"),
      () => show(message.line),
    );
  };
  model.on("msg:custom", heard);
  const box = document.createElement("div");
  box.className = "pbnb-invitation";
  box.append(line, reveal, copy);
  el.append(style, box);
  return () => model.off("msg:custom", heard);
}

export default { render };
