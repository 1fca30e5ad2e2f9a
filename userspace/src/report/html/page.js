"use strict";
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
const all = () => [...document.querySelectorAll("details.listener")];
document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const entry of document.querySelectorAll("[data-words]")) {
    entry.hidden = !words.every((word) => entry.dataset.words.includes(word));
  }
});
document.getElementById("all").addEventListener("click", () => {
  const open = all().some((entry) => !entry.open);
  for (const entry of all()) entry.open = open;
});
const reveal = (hash) => {
  const target = hash && document.getElementById(hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
};
// Not hashchange alone: the second click on a link changes nothing.
for (const link of document.querySelectorAll("a[href^='#']")) link.addEventListener("click", () => reveal(link.hash));
addEventListener("hashchange", () => reveal(location.hash));
reveal(location.hash);
