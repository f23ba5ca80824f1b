// The view of a panel. Words of peers are only ever inserted as text. No request leaves the page.

const ROW = 24; // pixels, as in panel.css
const TABS = ["peers", "lent", "borrowed", "caches", "pending", "log"];
const NUMBERS = new Set(["count", "in", "out", "calls in", "calls out", "luid", "took", "trip"]);
const LOW = new Set(["calls in", "calls out", "trip", "deadline", "user", "time", "side"]);
const LOWER = new Set(["way", "here", "holder", "peer", "target"]);
const ACTIONS = {
  peers: ["disconnect", "Disconnect", true],
  borrowed: ["release", "Release", true],
  pending: ["cancel", "Cancel", false],
};
const EMPTY = {
  peers: "Nobody is connected.",
  lent: "Nothing is lent.",
  borrowed: "Nothing is borrowed.",
  caches: "No live copies.",
  pending: "No call is pending.",
  log: "Nothing has ended yet.",
};

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function bytes(count) {
  if (count < 1000) return `${Math.round(count)} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  if (count < 1e9) return `${(count / 1e6).toFixed(1)} MB`;
  return `${(count / 1e9).toFixed(1)} GB`;
}

function seconds(age) {
  if (age < 0.001) return `${Math.max(0, age * 1e6).toFixed(0)} µs`;
  if (age < 1) return `${(age * 1e3).toFixed(age < 0.01 ? 1 : 0)} ms`;
  if (age < 60) return `${age.toFixed(age < 10 ? 1 : 0)} s`;
  if (age < 3600) return `${Math.floor(age / 60)} min ${Math.floor(age % 60)} s`;
  return `${Math.floor(age / 3600)} h ${Math.floor((age % 3600) / 60)} min`;
}

function ago(age) {
  return seconds(age < 1 ? 0.1 * Math.round(age * 10) : age).replace("0 µs", "now");
}

function isText(cell) {
  return typeof cell === "string" || Number.isInteger(cell); // and no time, shown as an age
}

function order(cell) {
  if (typeof cell === "number") return [0, cell];
  return cell === null || cell === "" ? [2, ""] : [1, String(cell).toLowerCase()];
}

function compare(one, other) {
  const [a, x] = order(one);
  const [b, y] = order(other);
  return a - b || (x < y ? -1 : x > y ? 1 : 0);
}

function spark(label) {
  const box = element("span", "pbnb-spark");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 59 18");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.append(path);
  const value = element("output", "", label);
  box.append(svg, value);
  return {
    box,
    draw(history, text) {
      const most = Math.max(1, ...history);
      const start = 60 - history.length;
      const points = history.map((v, i) => `${start + i},${(17 - (16 * v) / most).toFixed(1)}`);
      path.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
      setText(value, text);
    },
  };
}

function render({ model, el }) {
  const view = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  const say = (type, more) => model.send({ type, view, ...more });
  const state = {
    sequence: 0,
    offset: null, // of the kernel's clock to this one
    columns: null,
    tables: Object.fromEntries(TABS.map((name) => [name, new Map()])),
    totals: {},
    servers: [],
    rates: [],
    tab: "peers",
    sorts: {},
    text: "",
    frozen: false,
    seen: 0,
    note: "",
    armed: null,
  };
  const now = () => performance.now() / 1000 + (state.offset ?? 0);

  const panel = element("div", "pbnb-panel");
  const head = element("div", "pbnb-head");
  const title = element("span", "pbnb-title", "pbnb");
  const calls = spark("calls/s");
  const traffic = spark("bytes/s");
  const filter = element("input");
  filter.type = "search";
  filter.placeholder = "filter";
  filter.setAttribute("aria-label", "filter rows by text");
  const freeze = element("button", "", "Freeze");
  freeze.type = "button";
  freeze.setAttribute("aria-pressed", "false");
  head.append(title, calls.box, traffic.box, filter, freeze);
  const servers = element("ul", "pbnb-servers");
  const tabs = element("div", "pbnb-tabs");
  tabs.setAttribute("role", "tablist");
  const scroll = element("div", "pbnb-scroll");
  scroll.setAttribute("role", "tabpanel");
  scroll.tabIndex = 0;
  const table = element("table");
  const heading = element("thead");
  const body = element("tbody");
  table.append(heading, body);
  scroll.append(table);
  const foot = element("div", "pbnb-foot");
  const note = element("span");
  note.setAttribute("role", "status");
  const count = element("span");
  foot.append(note, count);
  panel.append(head, servers, tabs, scroll, foot);
  el.append(panel);

  const tabButtons = {};
  for (const name of TABS) {
    const button = element("button", "", name);
    button.type = "button";
    button.setAttribute("role", "tab");
    button.dataset.tab = name;
    button.append(element("b", "", "0"));
    button.addEventListener("click", () => choose(name));
    tabs.append(button);
    tabButtons[name] = button;
  }
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = (TABS.indexOf(state.tab) + step + TABS.length) % TABS.length;
    choose(TABS[at]);
    tabButtons[TABS[at]].focus();
  });

  // Keys typed here are no shortcuts of the notebook.
  panel.addEventListener("keydown", (event) => event.stopPropagation());

  function choose(name) {
    state.tab = name;
    state.armed = null;
    scroll.scrollTop = 0;
    buildHead();
    ask();
    draw(true);
  }

  function ask() {
    const sort = state.sorts[state.tab];
    say("query", {
      table: state.tab,
      text: state.text,
      column: sort ? sort.column : null,
      down: sort ? sort.down : false,
    });
  }

  function buildHead() {
    for (const name of TABS) {
      const chosen = name === state.tab;
      tabButtons[name].setAttribute("aria-selected", String(chosen));
      tabButtons[name].tabIndex = chosen ? 0 : -1;
    }
    heading.replaceChildren();
    body.replaceChildren();
    const names = state.columns?.[state.tab];
    if (!names) return;
    const row = element("tr");
    const sort = state.sorts[state.tab];
    names.forEach((name, index) => {
      const cell = element("th", rank(name));
      const mark = sort?.column === index + 1 ? (sort.down ? " ↓" : " ↑") : "";
      if (mark) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      const button = element("button", "", label(name) + mark);
      button.type = "button";
      button.addEventListener("click", () => {
        const down = sort?.column === index + 1 && !sort.down;
        state.sorts[state.tab] = { column: index + 1, down };
        buildHead();
        ask();
        draw(true);
      });
      cell.append(button);
      row.append(cell);
    });
    if (ACTIONS[state.tab]) row.append(element("th", "pbnb-act"));
    heading.append(row);
  }

  function label(name) {
    return name === "since" ? "age" : name;
  }

  function rank(name) {
    const classes = [];
    if (NUMBERS.has(name)) classes.push("pbnb-number");
    if (LOW.has(name)) classes.push("pbnb-low");
    if (LOWER.has(name)) classes.push("pbnb-lower");
    return classes.join(" ");
  }

  function rows() {
    let found = [...state.tables[state.tab].values()];
    if (state.text) {
      const text = state.text.toLowerCase();
      found = found.filter((row) =>
        row.some((cell, at) => at && isText(cell) && String(cell).toLowerCase().includes(text)),
      );
    }
    const sort = state.sorts[state.tab];
    if (sort) {
      found.sort((a, b) => compare(a[sort.column], b[sort.column]) * (sort.down ? -1 : 1));
    } else if (state.tab === "log") {
      found.sort((a, b) => b[1] - a[1]);
    }
    return found;
  }

  function fill(cell, name, value, row) {
    let text = value === null || value === undefined ? "" : String(value);
    if (name === "since" || name === "time") {
      const age = Math.max(0, now() - value);
      text = ago(age);
      if (name === "since" && state.tab === "pending") {
        const deadline = row[6];
        const whole = deadline ? Math.max(deadline - value, 0.001) : 10;
        cell.style.setProperty("--pb-part", `${Math.min(100, (100 * age) / whole).toFixed(1)}%`);
        cell.className = `pbnb-age${age > 0.8 * whole ? " pbnb-late" : ""}`;
      }
    } else if (name === "deadline") {
      text = value === null ? "" : `in ${seconds(Math.max(0, value - now()))}`;
    } else if (name === "took" || name === "trip") {
      text = value === null ? "" : seconds(value);
    } else if (name === "in" || name === "out") {
      text = bytes(value);
    } else if (name === "way") {
      text = { in: "← in", out: "→ out" }[value] ?? value;
    } else if (name === "count" && value === 0) {
      text = "";
    }
    setText(cell, text);
    const full = text.length > 24 ? text : "";
    if (cell.title !== full) cell.title = full;
  }

  function draw(force) {
    if (state.frozen && !force) return;
    const names = state.columns?.[state.tab];
    if (!names) return;
    const found = rows();
    const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - 4);
    const visible = Math.ceil(scroll.clientHeight / ROW) + 8;
    const shown = found.slice(first, first + visible);
    const action = ACTIONS[state.tab];
    while (body.children.length > shown.length + 2) body.children[1].remove();
    while (body.children.length < shown.length + 2) {
      const row = element("tr");
      if (body.children.length > 1) {
        for (const name of names) row.append(element("td", rank(name)));
        if (action) row.append(actionCell(action));
        body.insertBefore(row, body.lastChild);
      } else {
        row.setAttribute("aria-hidden", "true");
        body.append(row);
      }
    }
    body.firstChild.style.height = `${first * ROW}px`;
    body.lastChild.style.height = `${Math.max(0, found.length - first - shown.length) * ROW}px`;
    shown.forEach((values, index) => {
      const row = body.children[index + 1];
      row.dataset.key = values[0];
      names.forEach((name, at) => fill(row.children[at], name, values[at + 1], values));
      if (state.tab === "log") row.classList.toggle("pbnb-wrong", values[7] !== null);
      if (action) drawAction(row.lastChild.firstChild, action, values);
    });
    drawFrame(found.length);
  }

  function drawFrame(found) {
    for (const name of TABS) {
      const total = state.totals[name] ?? 0;
      setText(tabButtons[name].lastChild, String(total));
    }
    const total = state.totals[state.tab] ?? 0;
    const kept = state.tables[state.tab].size;
    let text = total ? `${total} ${total === 1 ? "row" : "rows"}` : EMPTY[state.tab];
    if (state.text) text = kept < total ? `${found} found, of ${total}` : `${found} of ${total}`;
    else if (kept < total) text = `${kept} of ${total} rows: filter or sort for others`;
    setText(count, state.frozen ? `frozen, ${text}` : text);
    setText(note, state.note);
  }

  function actionCell(action) {
    const cell = element("td", "pbnb-act");
    const button = element("button", "", action[1]);
    button.type = "button";
    button.addEventListener("click", () => {
      const key = button.closest("tr").dataset.key;
      if (action[2] && !arm(key)) return;
      state.armed = null;
      say("act", { action: action[0], key });
    });
    cell.append(button);
    return cell;
  }

  function drawAction(button, action, values) {
    const named = state.tab === "borrowed" && typeof values[1] === "string";
    button.hidden = named;
    const armed = state.armed?.key === values[0];
    setText(button, armed ? "Sure?" : action[1]);
    button.classList.toggle("pbnb-armed", armed);
    button.setAttribute("aria-label", `${action[1]} ${values[1]}`);
  }

  function arm(key) {
    const sure = state.armed?.key === key;
    if (!sure) {
      const armed = (state.armed = { key });
      setTimeout(() => {
        if (state.armed === armed) state.armed = null;
        drawServers();
        draw(true);
      }, 3000);
      drawServers();
      draw(true);
    }
    return sure;
  }

  function drawServers() {
    servers.replaceChildren();
    for (const [key, what, address, status, anonymous] of state.servers) {
      const line = `%pb_connect ${address}`;
      const item = element("li");
      item.append(element("b", "", what));
      item.append(element("code", "", line));
      item.append(element("span", "pbnb-state", anonymous ? `${status}, no login` : status));
      if (status === "open") {
        const copy = element("button", "", "Copy");
        copy.type = "button";
        copy.setAttribute("aria-label", `Copy ${line}`);
        copy.addEventListener("click", () => copyText(line));
        const armed = state.armed?.key === key;
        const stop = element("button", armed ? "pbnb-armed" : "", armed ? "Sure?" : "Stop");
        stop.type = "button";
        stop.setAttribute("aria-label", `Stop serving ${what}`);
        stop.addEventListener("click", () => {
          if (!arm(key)) return;
          state.armed = null;
          say("act", { action: "stop", key });
        });
        item.append(copy, stop);
      }
      servers.append(item);
    }
  }

  async function copyText(text) {
    try {
      await navigator.clipboard.writeText(text);
      state.note = `copied ${text}`;
    } catch {
      state.note = `copy this: ${text}`; // the browser allows no writing to the clipboard
    }
    draw(true);
  }

  function drawRates() {
    const [callRate, byteRate] = state.rates.at(-1) ?? [0, 0];
    calls.draw(state.rates.map((each) => each[0]), `${Math.round(callRate)} calls/s`);
    traffic.draw(state.rates.map((each) => each[1]), `${bytes(byteRate)}/s`);
  }

  function receive(message) {
    if (message.type === "note") {
      state.note = message.text;
      draw(true);
      return;
    }
    if (message.type === "snapshot") {
      state.columns = message.columns;
      for (const name of TABS) {
        state.tables[name] = new Map(message.tables[name].map((row) => [row[0], row]));
      }
      state.rates = message.rates;
      setText(title, message.title);
    } else if (message.type !== "changes" || !state.sequence) {
      return;
    } else if (message.sequence !== state.sequence + 1) {
      state.sequence = 0;
      say("ready"); // something was lost on the way: begin anew
      return;
    }
    const first = !state.sequence;
    state.sequence = message.sequence;
    const offset = message.now - performance.now() / 1000;
    state.offset = state.offset === null ? offset : Math.max(state.offset, offset);
    for (const [name, changed] of Object.entries(message.put ?? {})) {
      for (const row of changed) state.tables[name].set(row[0], row);
    }
    for (const [name, keys] of Object.entries(message.gone ?? {})) {
      for (const key of keys) state.tables[name].delete(key);
    }
    if (message.totals) state.totals = message.totals;
    if (message.rate) state.rates = [...state.rates, message.rate].slice(-60);
    if (message.servers) {
      state.servers = message.servers;
      drawServers();
    }
    if (first) buildHead();
    if (message.rate || message.rates) drawRates();
    soon();
  }

  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw(false);
    });
  }

  let typing;
  filter.addEventListener("input", () => {
    state.text = filter.value;
    scroll.scrollTop = 0;
    draw(true);
    clearTimeout(typing);
    typing = setTimeout(ask, 150);
  });
  freeze.addEventListener("click", () => {
    state.frozen = !state.frozen;
    freeze.setAttribute("aria-pressed", String(state.frozen));
    draw(true);
  });
  scroll.addEventListener("scroll", () => draw(true), { passive: true });
  model.on("msg:custom", receive);
  const ages = setInterval(soon, 500);
  const alive = setInterval(() => say("alive"), 5000);
  const restart = setInterval(() => state.sequence || say("ready"), 2000);
  buildHead();
  say("ready");

  return () => {
    clearInterval(ages);
    clearInterval(alive);
    clearInterval(restart);
    model.off("msg:custom", receive);
    say("gone");
  };
}

export default { render };
