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

inOwnZone(document);

// Pages bring themselves up to date, after as many seconds as they say, unless nobody looks or somebody writes there.
let lastSeen = "";

async function bringUpToDate() {
  const main = document.querySelector("main[data-live]");
  const written = [...main.querySelectorAll("input:not([type=hidden])")].some((one) => one.value !== one.defaultValue);
  const isWriting = written || (main.contains(document.activeElement) && document.activeElement.matches("input, select"));
  if (!document.hidden && !isWriting) {
    const answer = await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
    if (answer !== null && answer.ok && !answer.redirected) {
      const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (found !== null && found.innerHTML !== lastSeen) {
        const opened = [...main.querySelectorAll("details")].map((one) => one.open);
        lastSeen = found.innerHTML;
        main.replaceWith(found);
        found.querySelectorAll("details").forEach((one, place) => { one.open = opened[place] ?? one.open; });
        inOwnZone(found);
      }
    }
  }
  lookAgain();
}

function lookAgain() {
  const main = document.querySelector("main[data-live]");
  if (main !== null) setTimeout(bringUpToDate, 1000 * Number(main.dataset.live));
}

lookAgain();
