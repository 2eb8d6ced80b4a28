// What operators do. Nothing happens by one click: the dialog says first what will be done, and
// wants a reason for the audit log.

import { ask } from "./api.js";
import { make } from "./dom.js";

const element = (id) => document.getElementById(id);

let asked = null;

/** Whether somebody is about to act: nobody's click is to meet another row than he aimed at. */
export const isActing = () => element("action").open;

/**
 * Asks whether to do something, and does it.
 *
 * `title` and `verb` name it, `does` says what it does, `subject` is what it is done to; `path` and
 * `body` are its request, without the reason; `said` makes a sentence of the answer, and `page` is
 * the section that shows it.
 */
export function offer(action) {
  asked = action;
  element("action-title").textContent = action.title;
  element("action-does").textContent = action.does;
  element("action-subject").textContent = action.subject;
  element("action-go").textContent = action.verb;
  element("because").value = "";
  element("action").returnValue = "cancel";
  element("action").showModal();
}

/** A button that offers an action. */
export function button(text, action) {
  const made = make("button", { type: "button", textContent: text });
  made.addEventListener("click", () => offer(action));
  return made;
}

async function go() {
  if (element("action").returnValue !== "go" || asked === null) return;
  const { path, body, said, subject, page } = asked;
  asked = null;
  let told;
  try {
    told = said(await ask(path, { ...body, because: element("because").value }));
  } catch (error) {
    told = error.message;
  }
  element("done")?.remove();
  element(page).prepend(make("p", { role: "status", id: "done", textContent: `${subject}: ${told}` }));
}

element("action").addEventListener("close", go);
