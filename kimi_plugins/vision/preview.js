"use strict";
const buttons = [...document.querySelectorAll("nav button")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    for (const card of document.querySelectorAll("article")) {
      card.hidden = button.dataset.source !== "" && card.dataset.source !== button.dataset.source;
    }
  });
}
