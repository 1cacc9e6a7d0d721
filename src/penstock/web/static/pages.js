// Dates in the reader's own zone, with UTC where one points; pages work without this.
"use strict";

function inOwnZone(part) {
  for (const time of part.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) {
      time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    }
  }
}

let lastSeen = contentOf(document.querySelector("main"));
inOwnZone(document);

// Pages bring themselves up to date, after as many seconds as they say, unless nobody looks or somebody writes there.
// What an action said stays until one leaves: it is told once.
function contentOf(main) {
  const copy = main.cloneNode(true);
  copy.querySelector(".told")?.remove();
  return copy.innerHTML;
}

function isWriting(main) {
  const isChosen = (one) => one.selectedIndex !== Math.max([...one.options].findIndex((option) => option.defaultSelected), 0);
  return main.contains(document.activeElement) && document.activeElement.matches("input, select")
    || [...main.querySelectorAll("input:not([type=hidden])")].some((one) => one.value !== one.defaultValue)
    || [...main.querySelectorAll("select")].some(isChosen);
}

async function bringUpToDate() {
  const main = document.querySelector("main[data-live]");
  if (!document.hidden && !isWriting(main)) {
    const headers = { "x-penstock-refresh": "1" };
    const answer = await fetch(location.href, { credentials: "same-origin", headers }).catch(() => null);
    const text = answer !== null && answer.ok && !answer.redirected ? await answer.text() : "";
    const found = new DOMParser().parseFromString(text, "text/html").querySelector("main");
    if (found !== null && contentOf(found) !== lastSeen && !isWriting(main)) {
      const opened = [...main.querySelectorAll("details")].map((one) => one.open);
      lastSeen = contentOf(found);
      const told = main.querySelector(".told");
      if (told !== null) found.prepend(told);
      main.replaceWith(found);
      found.querySelectorAll("details").forEach((one, place) => { one.open = opened[place] ?? one.open; });
      inOwnZone(found);
    }
  }
  lookAgain();
}

function lookAgain() {
  const main = document.querySelector("main[data-live]");
  if (main !== null) setTimeout(bringUpToDate, 1000 * Number(main.dataset.live));
}

lookAgain();
