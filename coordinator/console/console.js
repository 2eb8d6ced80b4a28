// The pages, and which of them is shown. Everything that is asked, shown or drawn has a module.

import { Refused, ask, forgetToken, keepToken } from "./api.js";
import { Overview } from "./overview.js";
import { InDoubt } from "./in-doubt.js";
import { Transaction } from "./transaction.js";

const EVERY_MS = 1000;
/** What is in doubt is asked of every shard's database, so not as often. */
const IN_DOUBT_EVERY = 3;

const pages = {
  overview: new Overview(),
  "in-doubt": new InDoubt(),
  transaction: new Transaction(),
};

const element = (id) => document.getElementById(id);

function current() {
  const name = location.hash.slice(1).split("/")[0];
  return name in pages ? name : "overview";
}

function show() {
  const name = current();
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.id !== name;
  }
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.hash === `#${name}`);
  }
  // The browser jumps to what is called as the hash is.
  scrollTo(0, 0);
  pages[name].shown?.(location.hash);
}

function signIn(isNeeded) {
  element("sign-in").hidden = !isNeeded;
  element("sign-out").hidden = isNeeded || !sessionStorage.getItem("token");
  if (isNeeded) {
    document.querySelectorAll("main > section").forEach((section) => { section.hidden = true; });
    element("token").focus();
  } else {
    show();
  }
}

function tell(trouble) {
  element("trouble").hidden = !trouble;
  element("trouble").textContent = trouble ?? "";
}

let wasRefused = true;
let turn = 0;

async function tick() {
  if (document.hidden) {
    setTimeout(tick, EVERY_MS);
    return;
  }
  try {
    const standing = await ask("/v1/standing");
    const inDoubt = turn % IN_DOUBT_EVERY === 0 ? await ask("/v1/in-doubt") : null;
    turn += 1;
    tell(null);
    if (wasRefused) {
      wasRefused = false;
      signIn(false);
    }
    element("who").textContent = `${location.host}, version ${standing.version}`;
    pages.overview.update(standing);
    if (inDoubt) pages["in-doubt"].update(inDoubt);
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      const hadToken = sessionStorage.getItem("token") !== null;
      tell(hadToken ? error.message : null);
      forgetToken();
      wasRefused = true;
      signIn(true);
      return;
    }
    tell(`The coordinator does not answer: ${error.message}`);
  }
  setTimeout(tick, EVERY_MS);
}

element("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(element("token").value.trim());
  element("token").value = "";
  tick();
});
element("sign-out").addEventListener("click", () => {
  forgetToken();
  location.reload();
});
addEventListener("hashchange", () => { if (!wasRefused) show(); });
tick();
