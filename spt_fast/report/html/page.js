"use strict";
/* What a reader does with the page: sections by link, tips, and the browser of samples. The address (#section?filters&row) holds the
   view. All text of models is set as text and nothing else: the page's policy refuses markup from strings. */

const find = (selector) => document.querySelector(selector);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* Characters that a reader cannot see (control, format, bidi, surrogates, private use) but for line feed and tab. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029]/gu;
const SHOWN_AT_ONCE = 20000;

function codePoint(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

/* Text into an element, with what cannot be seen written out, and the spans of `marks` ([begin, end]) marked. */
function putText(element, text, mark = null) {
  const pieces = [];
  let at = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if (found[0] === "\n" || found[0] === "\t") continue;
    pieces.push(...marked(text, at, found.index, mark));
    pieces.push(make("span", { className: "seen", textContent: codePoint(found[0]) }));
    at = found.index + found[0].length;
  }
  pieces.push(...marked(text, at, text.length, mark));
  element.replaceChildren(...pieces);
}

function marked(text, begin, end, mark) {
  if (mark === null || mark[1] <= begin || mark[0] >= end) return begin < end ? [text.slice(begin, end)] : [];
  const from = Math.max(begin, mark[0]), to = Math.min(end, mark[1]);
  const pieces = [text.slice(begin, from), make("mark", { textContent: text.slice(from, to) }), text.slice(to, end)];
  return pieces.filter((piece) => piece !== "");
}

/* A long text is shown in part until it is asked for whole: a line of a megabyte takes seconds to lay out. */
function textBlock(text, mark = null) {
  const block = make("pre", { tabIndex: 0 });
  if (text.length <= SHOWN_AT_ONCE) {
    putText(block, text, mark);
    return [block];
  }
  putText(block, text.slice(0, SHOWN_AT_ONCE), mark);
  const more = make("button", { type: "button", textContent: `show all ${text.length.toLocaleString("en")} characters` });
  more.addEventListener("click", () => {
    putText(block, text, mark);
    more.remove();
  });
  return [block, more];
}

function oneLine(text, most = 160) {
  return text.slice(0, most).replace(UNSEEN, (character) => (character === "\n" ? " \u21b5 " : character === "\t" ? " " : "\u00b7"));
}

/* ---- The address */

const sections = [...document.querySelectorAll("main > section")];

function readAddress() {
  const [id, query = ""] = location.hash.slice(1).split("?");
  return { id: sections.some((section) => section.id === id) ? id : sections[0].id, query: new URLSearchParams(query) };
}

function writeAddress(query) {
  const text = query.toString();
  history.replaceState(null, "", "#samples" + (text ? "?" + text : ""));
}

function showSection() {
  const { id, query } = readAddress();
  for (const section of sections) section.hidden = section.id !== id;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === "#" + id) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "center" }); // a phone shows only some of them
    } else link.removeAttribute("aria-current");
  }
  if (id === "samples") browser.show(query);
}

/* ---- Tips: what a number or a mark is, with its n and interval */

const tip = find("#tip");

function placeTip(target, x, y) {
  putText(tip, target.dataset.tip);
  tip.hidden = false;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = Math.max(4, Math.min(x + 12, room)) + "px";
  tip.style.top = (y + 16 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 8 : y + 16) + "px";
}

function tipOf(target) {
  return target instanceof Element ? target.closest("[data-tip]") ?? target.querySelector(":scope > [data-tip]") : null;
}

document.addEventListener("pointermove", (event) => {
  const target = tipOf(event.target);
  if (target) placeTip(target, event.clientX, event.clientY);
  else tip.hidden = true;
});
document.addEventListener("focusin", (event) => {
  const target = tipOf(event.target);
  const box = event.target.getBoundingClientRect();
  if (target && event.target.matches(":focus-visible")) placeTip(target, box.left, box.bottom);
  else tip.hidden = true;
});
document.addEventListener("scroll", () => { tip.hidden = true; }, true);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

find("#intervals").addEventListener("change", (event) => {
  document.body.classList.toggle("with-intervals", event.target.checked);
});

/* ---- Samples: unpacked one block after the other */

const FORM = 1, KNOWS = 2, CORRECT = 4, CUT_OFF = 8, JUDGED = 16, FORM_BY_RULE = 32, KNOWS_BY_RULE = 64;

async function unpack(script) {
  const bytes = Uint8Array.from(atob(script.textContent), (character) => character.charCodeAt(0));
  script.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function asRow(fields, { cells, heads, forms, rules }) {
  const [cell, example, head, prompt, completion, bits, target, extracted, rule, answers, chosen, logprobs, scores, before, span, options] = fields;
  const about = { form: forms[cells[cell].task], looksFor: rules };
  return { cell: cells[cell], example, head: heads[head], prompt, completion, bits, target, extracted, rule, answers, chosen, logprobs, scores, before, span, options, about };
}

const differs = (row) => (row.bits & JUDGED) && (((row.bits & FORM) !== 0) !== ((row.bits & FORM_BY_RULE) !== 0) || ((row.bits & KNOWS) !== 0) !== ((row.bits & KNOWS_BY_RULE) !== 0));
const has = (bit) => (row) => (row.bits & bit) !== 0;
const not = (bit) => (row) => (row.bits & bit) === 0;

/* name -> [how it is called, whether a row passes, whether it is offered for these rows (else always)] */
const VERDICTS = {
  "": ["any", () => true],
  "form": ["form followed", has(FORM)],
  "not-form": ["form not followed", not(FORM)],
  "knows": ["knows", has(KNOWS)],
  "not-knows": ["does not know", not(KNOWS)],
  "right": ["exactly right", has(CORRECT)],
  "not-right": ["not exactly right", not(CORRECT)],
  "form-knows": ["form and knowledge", (row) => (row.bits & 3) === 3],
  "form-not-knows": ["form without knowledge", (row) => (row.bits & 3) === FORM],
  "not-form-knows": ["knowledge without the form", (row) => (row.bits & 3) === KNOWS],
  "neither": ["neither form nor knowledge", (row) => (row.bits & 3) === 0],
  "cut-off": ["cut off by the token limit", has(CUT_OFF), has(CUT_OFF)],
  "judge": ["judge and rules differ", differs, has(JUDGED)],
  "flipped": ["the other run differs", (row) => Boolean(row.before), (row) => Boolean(row.before)],
  "gained": ["gained: not exactly right there", (row) => row.before && has(CORRECT)(row) && !(row.before[1] & CORRECT), (row) => Boolean(row.before)],
  "lost": ["lost: exactly right there", (row) => row.before && not(CORRECT)(row) && (row.before[1] & CORRECT), (row) => Boolean(row.before)],
};
const PLACES = ["model", "task", "protocol", "seed"];
const ROW_HEIGHT = 48;

const browser = {
  rows: [],
  shown: [],
  at: -1,
  form: find("#filters"),
  list: find("#list"),
  wanted: null,
  ready: null,

  /* Begin to unpack, the first time that it is asked for; then filter by the address. */
  show(query) {
    if (!this.form) return;
    this.wanted = query;
    this.ready ??= this.load();
    this.restore();
  },

  async load() {
    const blocks = [...document.querySelectorAll("script.block")];
    const about = await unpack(blocks.shift()), { cells } = about;
    cells.forEach((cell, order) => { cell.order = order; });
    let told = performance.now();
    for (const block of blocks) {
      for (const fields of await unpack(block)) this.rows.push(asRow(fields, about));
      if (performance.now() - told > 100) {
        find("#count").textContent = `unpacking \u2026 ${this.rows.length.toLocaleString("en")}`;
        await new Promise((resume) => setTimeout(resume));
        told = performance.now();
      }
    }
    this.rows.sort((a, b) => a.cell.order - b.cell.order || (a.example < b.example ? -1 : a.example > b.example ? 1 : 0));
    this.offer(cells);
    this.listen();
    document.body.dataset.ready = "samples";
  },

  offer(cells) {
    const there = new Set(this.rows.map((row) => row.cell));
    for (const name of PLACES) {
      const values = [...new Set(cells.filter((cell) => there.has(cell)).map((cell) => cell[name] ?? ""))];
      const options = values.filter((value) => value !== "").map((value) => new Option(oneLine(String(value)), value));
      this.form.elements[name].replaceChildren(new Option("all", ""), ...options);
    }
    const verdicts = Object.entries(VERDICTS).filter(([, [, , offered]]) => !offered || this.rows.some(offered));
    this.form.elements.verdict.replaceChildren(...verdicts.map(([name, [called]]) => new Option(called, name)));
  },

  listen() {
    let later = 0;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    const again = (event) => {
      clearTimeout(later);
      later = setTimeout(() => this.filter(null), event.type === "input" ? 150 : 0);
    };
    this.form.addEventListener("input", again);
    this.form.addEventListener("change", again);
    this.list.addEventListener("scroll", () => this.draw());
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(Number(row.dataset.at));
    });
    new ResizeObserver(() => this.draw()).observe(this.list);
    find("#next").addEventListener("click", () => this.choose(this.at + 1));
    find("#previous").addEventListener("click", () => this.choose(this.at - 1));
    document.addEventListener("keydown", (event) => this.key(event));
  },

  key(event) {
    const writing = event.target.closest("input, select, textarea");
    if (readAddress().id !== "samples" || writing || event.ctrlKey || event.metaKey || event.altKey) return;
    const inList = event.target === this.list;
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW_HEIGHT) - 1);
    const moves = { j: 1, k: -1, ...(inList && { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }) };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.choose(this.at + moves[event.key]);
  },

  /* The filters of the address, and the row that it names. */
  async restore() {
    await this.ready;
    for (const name of [...PLACES, "verdict", "text"]) {
      const field = this.form.elements[name];
      field.value = this.wanted.get(name) ?? "";
      if (field.value === "" && field.tagName === "SELECT") field.selectedIndex = 0;
    }
    this.filter(this.wanted.get("row"));
  },

  query() {
    const query = new URLSearchParams();
    for (const name of [...PLACES, "verdict", "text"]) {
      if (this.form.elements[name].value) query.set(name, this.form.elements[name].value);
    }
    const row = this.shown[this.at];
    if (row) query.set("row", `${row.cell.key}.${row.example}`);
    return query;
  },

  filter(wanted) {
    const values = Object.fromEntries([...PLACES, "verdict", "text"].map((name) => [name, this.form.elements[name].value]));
    const passes = VERDICTS[values.verdict]?.[1] ?? (() => true);
    const text = values.text.toLowerCase();
    const cells = new Map();
    const inPlace = (cell) => PLACES.every((name) => values[name] === "" || String(cell[name] ?? "") === values[name]);
    this.shown = this.rows.filter((row) => {
      if (!cells.has(row.cell)) cells.set(row.cell, inPlace(row.cell));
      return cells.get(row.cell) && passes(row) && (text === "" || this.reads(row, text));
    });
    find("#count").textContent = `${this.shown.length.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} samples`;
    find("#tall").style.height = this.shown.length * ROW_HEIGHT + "px";
    this.list.scrollTop = 0;
    const at = wanted ? this.shown.findIndex((row) => `${row.cell.key}.${row.example}` === wanted) : 0;
    this.choose(at >= 0 ? at : 0);
    if (wanted && at < 0) find("#count").textContent += "; the row of the address is not in this file, or not behind these filters";
  },

  reads(row, text) {
    return [row.completion, row.prompt, row.target, row.extracted ?? "", row.example].some((each) => each.toLowerCase().includes(text));
  },

  choose(at) {
    this.at = Math.max(0, Math.min(this.shown.length - 1, at));
    const row = this.shown[this.at];
    const top = this.at * ROW_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    if (top + ROW_HEIGHT > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW_HEIGHT - this.list.clientHeight;
    find("#previous").disabled = !row || this.at === 0;
    find("#next").disabled = !row || this.at === this.shown.length - 1;
    find("#detail").replaceChildren(...(row ? detail(row) : []));
    this.draw();
    writeAddress(this.query());
  },

  /* Only the rows in sight exist as elements. */
  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - 3);
    const last = Math.min(this.shown.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW_HEIGHT) + 3);
    const drawn = [];
    for (let at = first; at < last; at++) drawn.push(this.line(at));
    find("#tall").replaceChildren(...drawn);
    if (this.at >= first && this.at < last) this.list.setAttribute("aria-activedescendant", `row-${this.at}`);
    else this.list.removeAttribute("aria-activedescendant");
  },

  line(at) {
    const row = this.shown[at];
    const verdict = sign(row.bits & FORM, "form") + " " + sign(row.bits & KNOWS, "knows");
    const where = make("div", { className: "where" }, `${verdict} \u00b7 ${oneLine(placeOf(row.cell))}`);
    const line = make("div", { className: "row", id: `row-${at}` }, make("div", {}, oneLine(row.completion).trim() || "(nothing)"), where);
    line.dataset.at = at;
    line.style.top = at * ROW_HEIGHT + "px";
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", String(at === this.at));
    line.setAttribute("aria-setsize", this.shown.length);
    line.setAttribute("aria-posinset", at + 1);
    return line;
  },
};

const sign = (yes, what) => (yes ? "\u2713 " : "\u2717 ") + what;
const placeOf = (cell) => [cell.task, cell.protocol, ...(cell.seed === null ? [] : [`seed ${cell.seed}`]), cell.model].join(" \u00b7 ");

/* ---- One sample: what was asked, what came, and what it was taken for */

function detail(row) {
  const title = make("h3", { className: "title" });
  putText(title, placeOf(row.cell));
  const here = [heading("Completion" + (row.before ? ", this run" : "")), ...textBlock(row.completion, whereFound(row)), ...verdicts(row.bits, row)];
  const everywhere = make("a", { href: "#samples?" + new URLSearchParams({ text: row.example }), textContent: "in every cell" });
  const parts = [title, make("p", { className: "note" }, `row ${row.example}, `, everywhere)];
  if (row.before) {
    const [completion, bits, extracted, rule, span] = row.before;
    const other = { ...row, completion, extracted, rule, span, chosen: null };
    const there = [heading("Completion, the other run"), ...textBlock(completion, whereFound(other)), ...verdicts(bits, other)];
    parts.push(make("div", { className: "both" }, make("div", {}, ...there), make("div", {}, ...here)));
  } else {
    parts.push(...here);
  }
  parts.push(heading("Wanted"), ...textBlock(row.target), ...otherAnswers(row), heading("Prompt"));
  if (row.head) {
    const block = make("details", {}, make("summary", { textContent: `what the prompts of this cell begin with (${row.head.length.toLocaleString("en")} characters)` }));
    block.addEventListener("toggle", () => { if (block.open && block.children.length === 1) block.append(...textBlock(row.head)); });
    parts.push(block);
  }
  parts.push(...textBlock(row.prompt));
  return parts;
}

const heading = (text) => make("h3", { textContent: text });

function wordOf(text) {
  const word = make("p", { className: "note" });
  putText(word, text);
  return word;
}

/* Where an extracted value stands. Older run folders do not tell: then where it stands only once. */
function whereFound({ completion, extracted, span }) {
  if (span) return span[1] <= completion.length ? span : null;
  const at = extracted ? completion.indexOf(extracted) : -1;
  return at < 0 || completion.indexOf(extracted, at + 1) >= 0 ? null : [at, at + extracted.length];
}

function verdicts(bits, row) {
  const items = [["form", bits & FORM], ["knows", bits & KNOWS], ["exactly right", bits & CORRECT]].map(([what, yes]) =>
    make("li", {}, make("span", { className: yes ? "yes" : "no", textContent: sign(yes, what) })));
  return [make("ul", { className: "verdicts" }, ...items), ...reasons(bits, row).map(wordOf), ...likelihoods(row)];
}

/* What the task asks for, and so why the verdicts are what they are. */
function reasons(bits, row) {
  const said = [`Form: ${ofForm(bits, row)}`];
  const right = bits & JUDGED ? bits & KNOWS_BY_RULE : bits & KNOWS;
  if (row.logprobs) {
    if (row.chosen !== null && row.chosen !== undefined) {
      const likeliest = row.options ? `"${row.options[row.chosen]}"` : `option ${row.chosen + 1} of ${row.logprobs.length}`;
      said.push(`Knowledge: ${likeliest} is the likeliest option behind the prompt, whatever was written, and it is ${right ? "right" : "wrong"}.`);
    }
  } else if (row.extracted !== null && row.extracted !== undefined) {
    const looksFor = row.about.looksFor[row.rule];
    said.push(`Knowledge: the rule ${row.rule} found "${row.extracted}"${whereFound(row) ? ", marked above" : ""}; it is ${right ? "right" : "wrong"}.`);
    if (looksFor) said.push(`${row.rule}: ${looksFor}`);
  } else if (row.cell.closed_ended === false) {
    said.push("Knowledge: none of the task's rules found an answer in it, and nothing is guessed.");
  }
  if (bits & JUDGED) {
    const rules = `form ${bits & FORM_BY_RULE ? "yes" : "no"}, knows ${bits & KNOWS_BY_RULE ? "yes" : "no"}`;
    said.push(`The verdicts above are the judge's; the rules say: ${rules}.`);
  }
  for (const [name, value] of Object.entries(row.scores ?? {})) said.push(`${name}: ${value.toFixed(3)}`);
  return said;
}

function ofForm(bits, row) {
  const { form } = row.about, yes = bits & (bits & JUDGED ? FORM_BY_RULE : FORM);
  if (bits & CUT_OFF) return "it was cut off by the token limit, so it does not follow the form.";
  if (row.cell.closed_ended) return yes ? "it is one of the options, word for word, as the task asks." : "it is not one of the options, word for word.";
  return (yes ? "it has the form that the task asks for" : "it does not have the form that the task asks for") + (form ? `: ${form}` : ".");
}

/* Each option with its log-likelihood: what knowledge of a closed-ended task goes by. */
function likelihoods(row) {
  if (!row.logprobs || !row.options) return row.logprobs ? [wordOf(`Log-likelihoods in nats: ${row.logprobs.map(nats).join(", ")}.`)] : [];
  const lines = row.options.map((option, i) => {
    const line = make("li");
    const right = (row.answers ?? []).includes(option) || option === row.target;
    putText(line, `${nats(row.logprobs[i])}  ${option}${right ? "  \u2190 right" : ""}${i === row.chosen ? "  \u2190 likeliest" : ""}`);
    return line;
  });
  return [wordOf("Log-likelihood of each option, in nats:"), make("ul", { className: "options" }, ...lines)];
}

const nats = (value) => (value === null ? "\u2212\u221e" : value.toFixed(2).replace("-", "\u2212"));

function otherAnswers(row) {
  const others = (row.answers ?? []).filter((answer) => answer !== row.target);
  return others.length ? [wordOf(`what counts as right: ${others.join(" | ")}`)] : [];
}

/* ---- Begin */

addEventListener("hashchange", showSection);
showSection();
document.body.dataset.ready ??= "page";
