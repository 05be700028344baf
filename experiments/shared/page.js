"use strict";

// The theme first, before anything is drawn. Storage may be closed to a page that was opened as a file.
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

function remembered() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}

function remember(theme) {
  try { localStorage.setItem("theme", theme); } catch { /* it holds until the page is left */ }
}

const chosen = remembered();
if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".scripted")) element.hidden = false;
  themes();
  const show = filters();
  links(show);
  pictures();
  copying();
  scrolling();
  printing();
  contents();
});

function say(words) {
  document.getElementById("said").textContent = words;
}

function themes() {
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });
  dark.addEventListener("change", label);
  label();
}

// Returns a function that shows all again.
function filters() {
  const words = document.getElementById("words");
  const count = document.getElementById("count");
  const nothing = document.getElementById("nothing");
  const articles = [...document.querySelectorAll("article")].map((article) => ({
    article,
    entry: document.querySelector(`.contents a[href="#${CSS.escape(article.id)}"]`).parentElement,
    text: article.textContent.toLowerCase(),
    groups: article.dataset.groups.split(" "),
    failing: "failing" in article.dataset,
  }));
  const picked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

  function apply() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { article, entry, text, groups, failing } of articles) {
      const fits = (!picked("verdict") || failing)
        && (!picked("group") || groups.includes(picked("group")))
        && wanted.every((word) => text.includes(word));
      article.hidden = entry.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${articles.length} experiments`;
    nothing.hidden = shown > 0;
  }

  function showAll() {
    words.value = "";
    for (const choice of document.querySelectorAll('search input[type="radio"]')) choice.checked = choice.value === "";
    apply();
  }

  words.addEventListener("input", apply);
  for (const choice of document.querySelectorAll('search input[type="radio"]')) choice.addEventListener("change", apply);
  document.getElementById("all").addEventListener("click", () => { showAll(); words.focus(); });
  apply(); // a browser may have kept what was typed before a reload
  return showAll;
}

// A link may lead to what is filtered out or folded away.
function links(showAll) {
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const article = target.closest("article");
    const folded = target.closest("details:not([open])");
    if (article?.hidden) showAll();
    if (folded) folded.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
}

function pictures() {
  const dialog = document.getElementById("zoom");
  const large = dialog.querySelector("img");
  const words = dialog.querySelector("p");
  for (const figure of document.querySelectorAll("figure")) {
    const image = figure.querySelector("img");
    const button = figure.querySelector(".enlarge");
    const enlarge = () => {
      button.focus({ preventScroll: true }); // where the browser returns to
      large.src = image.src;
      large.alt = words.textContent = image.alt;
      dialog.showModal();
    };
    button.addEventListener("click", enlarge);
    image.addEventListener("click", enlarge);
    const play = figure.querySelector(".play");
    if (play) animate(image, play);
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => large.removeAttribute("src"));
}

// Nothing moves unasked; what does stops when less motion is asked of the system.
function animate(image, button) {
  const picture = image.src;
  function set(moving) {
    image.src = moving ? button.dataset.animation : picture;
    button.setAttribute("aria-pressed", moving);
    button.textContent = moving ? "Stop the animation" : "Play the animation";
  }
  button.addEventListener("click", () => set(image.src === picture));
  still.addEventListener("change", () => { if (still.matches) set(false); });
}

function copying() {
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const copied = await copy(button.dataset.copy);
      button.textContent = copied ? "Copied" : "Not copied";
      say(copied ? "The command is copied" : "The command could not be copied");
      setTimeout(() => { button.textContent = "Copy"; say(""); }, 2000);
    });
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard for this page: the old way, over a selection.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus();
    return copied;
  }
}

// What is wider than its box can be reached by keyboard.
function scrolling() {
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(".scrolls")) observer.observe(box);
}

function printing() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
}

// The experiment that is being read, in the table of contents.
function contents() {
  const entries = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      for (const link of entries.values()) link.removeAttribute("aria-current");
      entries.get(target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -79% 0px" });
  for (const article of document.querySelectorAll("article")) observer.observe(article);
}
